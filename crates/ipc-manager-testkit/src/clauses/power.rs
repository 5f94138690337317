// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is on the disk: a copy of a store in which everything that was never synchronised is as it was before.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ipc_manager::{Client, Suspend};
use serde_json::json;

use crate::context::contents;
use crate::steps::Stepper;
use crate::trace::{self, Call};
use crate::{Clause, Context, Need};

pub(super) const CLAUSES: &[Clause] = &[Clause {
    id: "power.cut_after_the_acknowledgement",
    text: "What was sent to outlive a power cut is there after one: with all that was never synchronised taken back, the bus \
           can be joined, and whoever continues a name gets the message.",
    source: &["T19", "D11"],
    needs: &[Need::Processes, Need::OutlivesPower, Need::NoCredentials],
    run: cut_after_the_acknowledgement,
}];

/// What a disk has.
#[derive(Debug, Default)]
struct Disk {
    /// Contents of files, by inode.
    files: HashMap<u64, Vec<u8>>,
    /// Names in directories, each with its inode and whether that is a directory, by path.
    dirs: HashMap<PathBuf, Vec<(PathBuf, u64, bool)>>,
}

impl Disk {
    /// All that is there.
    fn of(dir: &Path) -> Self {
        let mut disk = Self::default();
        let mut left = vec![dir.to_owned()];
        while let Some(next) = left.pop() {
            disk.sync(&next);
            for (name, _, is_dir) in disk.dirs[&next].clone() {
                if is_dir { left.push(next.join(name)) } else { disk.sync(&next.join(name)) }
            }
        }
        disk
    }

    /// Something was synchronised as it is now.
    fn sync(&mut self, path: &Path) {
        let Ok(found) = fs::symlink_metadata(path) else { return };
        if found.is_file() {
            self.files.insert(found.ino(), fs::read(path).unwrap());
        } else if found.is_dir() {
            let entries = fs::read_dir(path).unwrap().map(Result::unwrap);
            let named = |entry: fs::DirEntry| {
                let found = entry.metadata().unwrap();
                (PathBuf::from(entry.file_name()), found.ino(), found.is_dir())
            };
            self.dirs.insert(path.to_owned(), entries.map(named).collect());
        }
    }

    /// Makes a copy of a directory as it is on the disk.
    fn write(&self, from: &Path, to: &Path) {
        fs::DirBuilder::new().mode(0o700).create(to).unwrap();
        for (name, inode, is_dir) in self.dirs.get(from).into_iter().flatten() {
            if *is_dir {
                self.write(&from.join(name), &to.join(name));
                continue;
            }
            let mut options = fs::OpenOptions::new();
            let mut file = options.write(true).create_new(true).mode(0o600).open(to.join(name)).unwrap();
            // A file that is known by name only is empty.
            let content = self.files.get(inode).map(Vec::as_slice).unwrap_or_default();
            std::io::Write::write_all(&mut file, content).unwrap();
        }
    }
}

/// Has a process send, and returns what waits for the reader after a power cut.
fn after_the_cut(context: &Context<'_>, number: usize, is_lasting: bool) -> Vec<serde_json::Value> {
    let [before, after] = ["before", "after"].map(|what| context.sandbox().dir().join(format!("{what}-{number}")));
    fs::create_dir(&before).unwrap();
    let route = context.route_in(&before).expect("a store on a disk has a place there");
    let mut bus = context.owner().route(&route).spawn().unwrap();
    bus.connect("b").unwrap().suspend(Suspend::open_ended()).unwrap();
    let info = bus.info().to_string();
    let orders = json!({"operation": "send", "name": "a", "info": info, "back": "connect", "lasting": is_lasting});
    let stepper = Stepper::start(context.subject(), &orders);
    let (mut disk, mut syncs) = (Disk::of(&before), None::<PathBuf>);
    let said = stepper.watch(|call, traced| {
        // The call before has ended.
        if let Some(path) = syncs.take() {
            disk.sync(&path);
        }
        let descriptor = traced.first_argument().filter(|_| call == Call::SYNC);
        syncs = descriptor.and_then(|fd| fs::read_link(format!("/proc/{}/fd/{fd}", traced.pid())).ok());
    });
    assert_eq!(said["first"], "ok", "{said}");
    disk.write(&before, &after);
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let there = info.replace(&text(&before), &text(&after)).parse().unwrap();
    let again = Client::builder("b", &there).registry(context.subject().registry()).reconnect();
    let mut again = again.unwrap_or_else(|error| panic!("the bus cannot be joined after the cut: {error:?}"));
    let got = contents(&again.get_messages().unwrap());
    drop(again);
    bus.unspawn().unwrap();
    got
}

fn cut_after_the_acknowledgement(context: &Context<'_>) {
    trace::can().unwrap();
    assert_eq!(after_the_cut(context, 0, true), ["sent"]);
    // Without asking it may be there or not, but never damaged.
    let got = after_the_cut(context, 1, false);
    println!("without asking: {got:?}");
    assert!(got.is_empty() || got == ["sent"], "{got:?}");
}
