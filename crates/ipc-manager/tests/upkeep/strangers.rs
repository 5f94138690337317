// SPDX-License-Identifier: MIT OR Apache-2.0
//! Another user of the machine, who tries everything that can be reached, and what others could have put in one's way.

use std::fs::{self, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown, symlink};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::OnceLock;

use ipc_manager::{Client, ConnectionString, ErrorKind, Gc, Observer, Spawn, connect, reconnect};
use ipc_manager_testkit::{PATIENCE, Sandbox, Suite, Test};

use super::{PROTOCOLS, contents_of};

/// A user that is not this one, and that no file of anybody belongs to: nobody.
const STRANGER: u32 = 65_534;

/// What tells the stranger where to try.
const TARGETS: &str = "IPCM_TEST_TARGETS";

pub fn tests() -> Vec<Test> {
    let as_root = ipc_manager_testkit::tests![
        t22_another_user_reaches_nothing,
        t22_what_another_user_made_is_no_bus,
        t22_a_store_of_another_user_is_not_cleaned_up,
        t22_what_is_roots_in_everybodys_directory_is_no_bus,
    ];
    let as_anybody = ipc_manager_testkit::tests![
        t22_what_others_can_write_to_is_no_bus,
        t22_a_file_that_others_could_put_files_beside_is_no_bus,
        t22_no_secret_is_shown,
    ];
    as_root.into_iter().map(|test| test.only_if(can_be_another)).chain(as_anybody).collect()
}

pub fn add_to(suite: Suite) -> Suite {
    suite
        .act("is another user", || ExitCode::SUCCESS)
        .act("another user tries", another_user_tries)
        .act("another user tries paths", another_user_tries_paths)
        .act("another user looks at root's", another_user_looks_at_roots)
}

/// This program as another user.
fn as_stranger(act: &str) -> Command {
    let mut command = Suite::command(act);
    command.uid(STRANGER).gid(STRANGER).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub fn can_be_another() -> Result<(), String> {
    static ANSWER: OnceLock<Result<(), String>> = OnceLock::new();
    let ask = || {
        if !rustix::process::geteuid().is_root() {
            return Err("only root can become another user".to_owned());
        }
        let status = as_stranger("is another user").status().map_err(|error| format!("no other user: {error}"))?;
        status.success().then_some(()).ok_or_else(|| format!("another user cannot run this program: {status}"))
    };
    ANSWER.get_or_init(ask).clone()
}

/// Plays an act as another user, told the targets by the environment; it must find nothing that it should not.
#[track_caller]
fn play_as_stranger(act: &str, dir: &Path, targets: &serde_json::Value) {
    let output = as_stranger(act).env("TMPDIR", dir).env(TARGETS, targets.to_string()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
}

fn targets() -> serde_json::Value {
    serde_json::from_str(&std::env::var(TARGETS).unwrap()).unwrap()
}

/// A directory that every user can make things in, as the temporary directory is.
fn everybodys() -> Sandbox {
    let sandbox = Sandbox::short();
    fs::set_permissions(sandbox.dir(), Permissions::from_mode(0o1777)).unwrap();
    sandbox
}

fn t22_another_user_reaches_nothing(_: &Sandbox) {
    for protocol in PROTOCOLS {
        let sandbox = everybodys();
        let route = sandbox.dir().join("own");
        fs::create_dir(&route).unwrap();
        // Only the store itself keeps others out: everybody may look into what it is in.
        let route = route.join("bus");
        let builder = Spawn::builder().protocol(protocol).route(route.to_str().unwrap()).guard(false);
        let mut bus = builder.spawn().unwrap();
        let (mut a, mut b) = (bus.connect("a").unwrap(), bus.connect("b").unwrap());
        a.send("b", "private").unwrap();
        let before = contents_of(&sandbox);
        let paths: Vec<_> = before.keys().map(|path| sandbox.dir().join(path)).collect();
        let paths: Vec<_> = paths.iter().filter(|path| path.starts_with(&route) || is_beside(path, &route)).collect();
        play_as_stranger(
            "another user tries",
            sandbox.dir(),
            &serde_json::json!({"info": bus.info().to_string(), "paths": paths}),
        );
        assert_eq!(contents_of(&sandbox), before, "{protocol}: somebody changed something");
        assert_eq!(b.recv_timeout(PATIENCE).unwrap().content(), "private");
        a.send("b", "more").unwrap();
        assert_eq!(b.recv_timeout(PATIENCE).unwrap().content(), "more");
        assert!(b.take_damaged().is_empty() && a.take_damaged().is_empty());
        a.disconnect().unwrap();
        b.disconnect().unwrap();
        bus.unspawn().unwrap();
    }
}

fn is_beside(path: &Path, route: &Path) -> bool {
    path.to_string_lossy().starts_with(&*route.to_string_lossy())
}

fn another_user_tries() -> ExitCode {
    let targets = targets();
    let info: ConnectionString = targets["info"].as_str().unwrap().parse().unwrap();
    let refused = |error: ipc_manager::Error| {
        assert!(matches!(error.kind(), ErrorKind::Permission | ErrorKind::NoSuchBus | ErrorKind::Store), "{error}");
    };
    refused(connect("stranger", &info).unwrap_err());
    refused(reconnect("b", &info).unwrap_err());
    refused(connect("b", &info).unwrap_err());
    refused(Observer::new(&info).and_then(|mut observer| observer.peers()).unwrap_err());
    if let Ok(mut adopted) = Spawn::adopt(&info) {
        refused(adopted.shutdown().unwrap_err());
        refused(adopted.unspawn().unwrap_err());
    }
    let again = Spawn::builder().protocol(&info.protocol().short()).route(info.route().as_str()).guard(false);
    refused(again.spawn().unwrap_err());
    refused(Gc::of_bus(&info).run().unwrap_err());
    assert!(Gc::of_places([std::env::temp_dir()]).run().unwrap().leftovers.is_empty());
    let paths: Vec<PathBuf> = serde_json::from_value(targets["paths"].clone()).unwrap();
    assert!(!paths.is_empty());
    for path in &paths {
        assert_denied(path);
    }
    // Its own works, beside it.
    let own = Spawn::builder().protocol(&info.protocol().short()).spawn().unwrap();
    own.connect("x").unwrap().disconnect().unwrap();
    ExitCode::SUCCESS
}

fn another_user_tries_paths() -> ExitCode {
    let paths: Vec<PathBuf> = serde_json::from_value(targets()).unwrap();
    paths.iter().for_each(|path| assert_denied(path));
    ExitCode::SUCCESS
}

/// Has another user try all that is in a directory, if this machine has one to try with.
pub fn assert_out_of_reach(sandbox: &Sandbox) {
    if can_be_another().is_ok() {
        let paths: Vec<_> = sandbox.listing().into_iter().map(|path| sandbox.dir().join(path)).collect();
        assert!(!paths.is_empty());
        play_as_stranger("another user tries paths", sandbox.dir(), &serde_json::json!(paths));
    }
}

/// Tries what the system has for a path.
fn assert_denied(path: &Path) {
    let denied = |what: &str, tried: io::Result<()>| {
        let kind = tried.err().map(|error| error.kind());
        assert_eq!(kind, Some(io::ErrorKind::PermissionDenied), "{what} {}", path.display());
    };
    let open = |options: &mut OpenOptions| options.open(path).map(drop);
    // A directory can only be opened for reading; what is in it is tried by itself.
    denied("read", open(OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK)));
    denied(
        "write",
        match path.is_dir() {
            true => fs::write(path.join("planted"), "x"),
            false => open(OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK)),
        },
    );
    denied(
        "remove",
        fs::remove_file(path).map_err(|error| match error.raw_os_error() {
            // The parent is open to all for looking, and the directory is not empty.
            Some(libc::EISDIR | libc::EPERM) => io::ErrorKind::PermissionDenied.into(),
            _ => error,
        }),
    );
    denied("rename", fs::rename(path, path.with_file_name("renamed")));
    denied(
        "chmod",
        fs::set_permissions(path, Permissions::from_mode(0o777)).map_err(|_| io::ErrorKind::PermissionDenied.into()),
    );
    denied("connect", UnixStream::connect(path).map(drop).map_err(not_a_socket));
    denied("ring", UnixDatagram::unbound().unwrap().send_to(b"x", path).map(drop).map_err(not_a_socket));
}

/// What is no socket refuses connections, to whoever may reach it; and what has too long a path is out of reach anyway.
fn not_a_socket(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::InvalidInput => io::ErrorKind::PermissionDenied.into(),
        _ => error,
    }
}

/// Makes a bus that no owner guards and nobody is on.
fn kept(protocol: &str, route: &Path) -> ConnectionString {
    let bus = Spawn::builder().protocol(protocol).route(route.to_str().unwrap()).guard(false).spawn().unwrap();
    bus.info().clone()
}

#[track_caller]
fn assert_refused(info: &ConnectionString, kind: ErrorKind) {
    let context = info.to_string();
    assert_eq!(connect("a", info).unwrap_err().kind(), kind, "{context}");
    assert_eq!(reconnect("a", info).unwrap_err().kind(), kind, "{context}");
    assert_eq!(Observer::new(info).unwrap_err().kind(), kind, "{context}");
    let spawned = Spawn::builder().protocol(&info.protocol().short()).route(info.route().as_str()).spawn();
    assert!(spawned.is_err(), "{context}");
}

fn t22_what_another_user_made_is_no_bus(_: &Sandbox) {
    for protocol in PROTOCOLS {
        let sandbox = Sandbox::short();
        let route = sandbox.dir().join("bus");
        let info = kept(protocol, &route);
        chown(&route, Some(STRANGER), Some(STRANGER)).unwrap();
        assert_refused(&info, ErrorKind::Permission);
        // Nor what a link leads to, whoever made it.
        chown(&route, Some(0), Some(0)).unwrap();
        let link = sandbox.dir().join("link");
        symlink(&route, &link).unwrap();
        let linked = info.to_string().replace("/bus\"", "/link\"").parse().unwrap();
        assert_refused(&linked, ErrorKind::NoSuchBus);
        connect("a", &info).unwrap().disconnect().unwrap();
    }
}

fn t22_a_store_of_another_user_is_not_cleaned_up(_: &Sandbox) {
    for protocol in PROTOCOLS {
        let sandbox = Sandbox::short();
        let (mut killed, info) = super::owner(protocol, sandbox.dir());
        killed.kill();
        let store = super::store_of(&info, sandbox.dir());
        let paths: Vec<_> = sandbox.listing().into_iter().map(|path| sandbox.dir().join(path)).collect();
        let give = |to| paths.iter().for_each(|path| chown(path, Some(to), Some(to)).unwrap());
        give(STRANGER);
        let before = contents_of(&sandbox);
        assert!(super::gc(sandbox.dir()).leftovers.is_empty(), "{protocol}");
        assert_eq!(contents_of(&sandbox), before);
        give(0);
        assert_eq!(super::gc(sandbox.dir()).leftovers.len(), 1, "{protocol}");
        assert!(!store.exists());
    }
}

fn t22_what_is_roots_in_everybodys_directory_is_no_bus(_: &Sandbox) {
    let sandbox = everybodys();
    let own = sandbox.dir().join("own");
    fs::create_dir(&own).unwrap();
    let (open, closed) = (kept("MessageFiles", &sandbox.dir().join("bus")), kept("MessageFiles", &own.join("bus")));
    for info in [&open, &closed] {
        // So that it can be looked at: its mode alone would keep others out.
        fs::set_permissions(info.route().as_str(), Permissions::from_mode(0o755)).unwrap();
    }
    let infos = serde_json::json!([open.to_string(), closed.to_string()]);
    play_as_stranger("another user looks at root's", sandbox.dir(), &infos);
}

fn another_user_looks_at_roots() -> ExitCode {
    let infos = targets();
    let observed = |at: usize| Observer::new(&infos[at].as_str().unwrap().parse().unwrap());
    let error = observed(0).unwrap_err();
    assert!(error.kind() == ErrorKind::Permission && error.to_string().contains("every user"), "{error}");
    // What root made where only root makes things is root's word.
    observed(1).unwrap();
    ExitCode::SUCCESS
}

fn t22_what_others_can_write_to_is_no_bus(_: &Sandbox) {
    for protocol in PROTOCOLS {
        let sandbox = Sandbox::short();
        let route = sandbox.dir().join("bus");
        let info = kept(protocol, &route);
        let own = fs::metadata(&route).unwrap().permissions();
        for (mode, is_refused) in [(0o702, true), (0o777, true), (0o755, false)] {
            fs::set_permissions(&route, Permissions::from_mode(mode)).unwrap();
            match is_refused {
                true => assert_refused(&info, ErrorKind::Permission),
                false => connect("a", &info).unwrap().disconnect().unwrap(),
            }
        }
        // A group that may have others in it, where there is one to try with.
        if can_be_another().is_ok() {
            chown(&route, None, Some(STRANGER)).unwrap();
            fs::set_permissions(&route, Permissions::from_mode(0o770)).unwrap();
            assert_refused(&info, ErrorKind::Permission);
            chown(&route, None, Some(0)).unwrap();
        }
        fs::set_permissions(&route, own).unwrap();
        connect("a", &info).unwrap().disconnect().unwrap();
    }
}

fn t22_a_file_that_others_could_put_files_beside_is_no_bus(_: &Sandbox) {
    for protocol in ["SQLite", "JSONFile"] {
        let sandbox = Sandbox::short();
        let route = sandbox.dir().join("bus");
        let info = kept(protocol, &route);
        fs::set_permissions(sandbox.dir(), Permissions::from_mode(0o1777)).unwrap();
        let before = sandbox.listing();
        assert_refused(&info, ErrorKind::Permission);
        let made = Spawn::builder().protocol(protocol).route(sandbox.dir().join("new").to_str().unwrap()).spawn();
        assert_eq!(made.unwrap_err().kind(), ErrorKind::Permission);
        assert_eq!(sandbox.listing(), before, "{protocol}: something was made");
        // A temporary one has a directory of its own there.
        fs::set_permissions(sandbox.dir(), Permissions::from_mode(0o700)).unwrap();
        connect("a", &info).unwrap().disconnect().unwrap();
    }
}

fn t22_no_secret_is_shown(_: &Sandbox) {
    const SECRET: &str = "s3cr3t-w0rd";
    let routes = [
        ("PostgreSQL", format!("dbi:Pg:dbname=a;host=/nonexistent;password={SECRET}")),
        ("PostgreSQL", format!("postgres://me:{SECRET}@localhost/a")),
        ("MariaDB", format!("dbi:MariaDB:dbname=a;mariadb_socket=/nonexistent;pwd={SECRET}")),
        ("MySQL", format!("mysql://me:{SECRET}@localhost/a?password={SECRET}")),
    ];
    let hides = |what: &str, shown: String| assert!(!shown.contains(SECRET), "{what} shows it: {shown}");
    for (protocol, route) in &routes {
        let text = serde_json::json!([protocol, "JSON", route]).to_string();
        let info: ConnectionString = text.parse().unwrap();
        hides("a connection string", format!("{info} {info:?} {} {:?}", info.route(), info.route()));
        let cut = &text[..text.len() - 1];
        let broken = ConnectionString::parse(cut).unwrap_err();
        hides("an error of parsing", format!("{broken} {broken:?}"));
        let refused = connect("a", &info).unwrap_err();
        hides("an error of connecting", format!("{refused} {refused:?} {:?}", refused.place()));
        let refused = Spawn::builder().protocol(protocol).route(route).spawn().unwrap_err();
        hides("an error of making", format!("{refused} {refused:?}"));
        hides("a builder", format!("{:?}", Spawn::builder().protocol(protocol).route(route)));
        let refused = Observer::new(&info).unwrap_err();
        hides("an error of observing", format!("{refused} {refused:?}"));
        // Beside the string is where it belongs, and it is not shown there either.
        let plain = ConnectionString::new(
            info.protocol().clone(),
            info.serializer().clone(),
            ipc_manager::Route::new("dbi:x").unwrap(),
        );
        let builder = Client::builder("a", &plain).user("me").password(SECRET);
        hides("a client's builder", format!("{builder:?}"));
        let refused = builder.connect().unwrap_err();
        hides("an error with credentials", format!("{refused} {refused:?}"));
    }
}
