// SPDX-License-Identifier: MIT OR Apache-2.0
//! Something between a client and a database server that can lose the line at a commit, so that the client cannot know
//! whether it was done.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// When the line is lost.
///
/// ```
/// use ipc_manager_testkit::relay::Lost;
/// // Who lost the line cannot tell these apart; what stands in the database does.
/// assert_ne!(Lost::Before, Lost::After);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Lost {
    /// Before the server hears of the commit, so the transaction is undone.
    Before = 1,
    /// After the server did it, before it says so.
    After = 2,
}

/// A socket that passes everything on to a server, until it is told to lose the line.
///
/// ```
/// use ipc_manager_testkit::{Sandbox, relay::{Lost, Relay}};
/// use std::io::{Read, Write};
/// use std::os::unix::net::{UnixListener, UnixStream};
/// let sandbox = Sandbox::new();
/// let server = UnixListener::bind(sandbox.dir().join("server"))?;
/// let relay = Relay::to(&sandbox.dir().join("server"), &sandbox.dir().join("relay"));
///
/// let mut client = UnixStream::connect(sandbox.dir().join("relay"))?;
/// let (mut upstream, _) = server.accept()?;
/// relay.lose_next_commit(Lost::After);
/// client.write_all(b"COMMIT")?;
/// let mut heard = [0; 6];
/// upstream.read_exact(&mut heard)?;
/// upstream.write_all(b"done")?;
/// assert_eq!((&heard, client.read(&mut [0; 4])?), (b"COMMIT", 0));
/// assert!(relay.has_lost());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Relay {
    path: PathBuf,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// How the next commit is to be lost; 0 is not at all.
    next: AtomicU8,
    lines: Mutex<Vec<UnixStream>>,
    ended: AtomicBool,
}

impl Relay {
    /// Stands at `own` before the server whose socket this is.
    ///
    /// # Panics
    /// If there can be no socket.
    #[must_use]
    pub fn to(server: &Path, own: &Path) -> Self {
        let listener = UnixListener::bind(own).expect("a socket can be made in the sandbox");
        let (server, shared) = (server.to_owned(), Arc::new(Shared::default()));
        let relay = Self { path: own.to_owned(), shared: Arc::clone(&shared) };
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if shared.ended.load(Ordering::SeqCst) {
                    break;
                }
                let Ok(upstream) = UnixStream::connect(&server) else { continue };
                pass_on(client, upstream, &shared);
            }
        });
        relay
    }

    /// Loses the line of whoever commits next.
    pub fn lose_next_commit(&self, when: Lost) {
        self.shared.next.store(when as u8, Ordering::SeqCst);
    }

    /// Whether the line was lost since that was last asked for.
    #[must_use]
    pub fn has_lost(&self) -> bool {
        self.shared.next.load(Ordering::SeqCst) == 0
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        // Wakes who listens.
        let _ = UnixStream::connect(&self.path);
        for line in self.shared.lines.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = line.shutdown(Shutdown::Both);
        }
    }
}

fn pass_on(client: UnixStream, server: UnixStream, shared: &Arc<Shared>) {
    let pair = (client.try_clone(), server.try_clone());
    let (Ok(to_client), Ok(from_server)) = pair else { return };
    for line in [&client, &server] {
        let kept = line.try_clone().into_iter();
        shared.lines.lock().unwrap_or_else(PoisonError::into_inner).extend(kept);
    }
    let is_losing = Arc::new(AtomicBool::new(false));
    let (shared, loses) = (Arc::clone(shared), Arc::clone(&is_losing));
    thread::spawn(move || {
        copy(client, server, |bytes| {
            if !commits(bytes) {
                return true;
            }
            match shared.next.swap(0, Ordering::SeqCst) {
                0 => true,
                when => {
                    loses.store(true, Ordering::SeqCst);
                    when == Lost::After as u8
                }
            }
        });
    });
    thread::spawn(move || copy(from_server, to_client, |_| !is_losing.load(Ordering::SeqCst)));
}

/// Whether a transaction is to be committed: a session that says how it isolates reads something `COMMITTED`.
fn commits(bytes: &[u8]) -> bool {
    let word = b"COMMIT";
    let mut found = bytes.windows(word.len()).enumerate().filter(|(_, here)| here == word);
    found.any(|(at, _)| bytes.get(at + word.len()) != Some(&b'T'))
}

/// Passes on what comes, as long as it may; then both ends are closed.
fn copy(mut from: UnixStream, mut to: UnixStream, mut may_pass: impl FnMut(&[u8]) -> bool) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(size @ 1..) = from.read(&mut buffer) {
        if !may_pass(&buffer[..size]) || to.write_all(&buffer[..size]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
