// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files that lie beside an entry, and names that stand on disk, of any content.

use ipc_manager_testkit::Sandbox;

use super::sidecars::split_records;
use super::tests::KIND;
use super::*;
use crate::fuzz::target;
use crate::serializer::Json;
use crate::stats::Stats;

/// Where a store's directory is made, and the store.
fn store() -> (Sandbox, Store) {
    let sandbox = Sandbox::new();
    let route = Route::new(sandbox.dir().to_str().expect("it is UTF-8")).expect("it is a route");
    let store =
        Store::open(KIND, &route, crate::system::access::Access::Private).expect("an empty directory can be a store");
    (sandbox, store)
}

#[test]
fn records_that_were_put_back() {
    target("resume").seed(&b"\0\0\0\x02ab\0\0\0\0\0\0\0\x01c"[..]).bytes(|input| {
        let (records, cut_at) = split_records(input);
        let mut written = Vec::new();
        for record in records {
            written.extend_from_slice(&u32::try_from(record.len()).expect("it is short").to_be_bytes());
            written.extend_from_slice(record);
        }
        assert_eq!(cut_at, (written.len() < input.len()).then_some(written.len()));
        assert!(input.starts_with(&written));
    });
}

#[test]
fn names_on_disk_are_one_harmless_component() {
    target("disk-name")
        .seed("worker-1")
        .seed("a/b\\c")
        .seed("h-a92efd82109373e58f9a2056dee01e807e216ce6")
        .seed("n".repeat(201))
        .seed("caf\u{e9} \u{20ac}")
        .bytes(|input| {
            let Ok(name) = PeerName::foreign(&String::from_utf8_lossy(input)) else { return };
            for max_name in [41, 200] {
                let Ok(disk) = disk_name_within(max_name, &name) else { continue };
                let raw = disk.as_encoded_bytes();
                assert!((1..=max_name.max(42)).contains(&raw.len()), "{disk:?}");
                assert!(!raw.iter().any(|byte| matches!(byte, 0..=0x1f | b'/' | b'\\')), "{disk:?}");
                assert!(raw != b"." && raw != b".." && !raw.starts_with(b"_"), "{disk:?}");
                if name.as_str().chars().all(|c| c <= '\u{ff}') && !raw.starts_with(b"h-") {
                    assert_eq!(PeerName::foreign(&files::latin1(raw)).ok().as_ref(), Some(&name));
                }
            }
        });
}

#[test]
fn files_beside_an_entry() {
    let (sandbox, store) = store();
    let disk = OsStr::new("h-x");
    target("sidecar")
        .cases(64)
        .memory(2 << 20, 128)
        .seed("1234\n")
        .seed("1700000000.5")
        .seed("a real name")
        .seed(r#"{"read":{"a":1},"sent":{}}"#)
        .seed(&b"\0\0\0\x02{}\0\0\0\x05"[..])
        .bytes(|input| {
            for sidecar in Sidecar::ALL {
                std::fs::write(sandbox.dir().join(sidecar.of(disk)), input).expect("it can be written");
            }
            let pid = store.read_pid(disk).expect("whatever it says");
            assert!(pid.is_none_or(|pid| i32::try_from(pid).is_ok_and(|pid| pid > 0)));
            store.read_suspend(disk).expect("whatever it says");
            store.real_name(disk).expect("whatever it says");
            if let Ok(Some(stats)) = store.read_stats(disk, &Json::new()) {
                store.write_stats(disk, &stats, &Json::new()).expect("counters can be written");
                let read: Option<Stats> = store.read_stats(disk, &Json::new()).expect("they can be read");
                assert_eq!(read, Some(stats));
            }
            let resumed = store.read_resume(disk).expect("whatever it says").expect("it is there");
            assert!(resumed.payloads.iter().map(Vec::len).sum::<usize>() <= input.len());
        });
}
