// SPDX-License-Identifier: MIT OR Apache-2.0
//! `ipcm demo` on every bus in a file or on a private server: as the user of the tests, and as an ordinary one.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use ipc_manager_testkit::servers::{Engine, can_start};
use ipc_manager_testkit::{Sandbox, Test, eventually};

/// An account that every system has and that is nobody's.
const NOBODY: u32 = 65_534;

pub fn tests() -> Vec<Test> {
    vec![
        Test::new("demos::sqlite", |sandbox| leaves_nothing(sandbox, "SQLite")),
        Test::new("demos::jsonfile", |sandbox| leaves_nothing(sandbox, "JSONFile")),
        Test::new("demos::postgresql", |sandbox| leaves_nothing(sandbox, "PostgreSQL"))
            .only_if(|| can_start(Engine::PostgreSQL)),
        Test::new("demos::mariadb", |sandbox| leaves_nothing(sandbox, "MariaDB"))
            .only_if(|| can_start(Engine::MariaDb)),
        Test::new("demos::mysql", |sandbox| leaves_nothing(sandbox, "MySQL")).only_if(|| can_start(Engine::MySql)),
        Test::new("demos::as_an_ordinary_user", as_an_ordinary_user).only_if(|| {
            let is_root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
            if is_root {
                Ok(())
            } else {
                Err("only root can become another user; the other demos are an ordinary one's".into())
            }
        }),
    ]
}

fn demo(program: &Path, protocol: &str, dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(["--json", "demo", "-p", protocol]).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    for engine in Engine::ALL {
        command.envs(std::env::var_os(engine.folder_variable()).map(|folder| (engine.folder_variable(), folder)));
    }
    // What a user has for other servers.
    command.envs([("PGUSER", "somebody"), ("PGPASSWORD", "secret"), ("MYSQL_PWD", "secret")]);
    command.env("HOME", dir).env("TMPDIR", dir).current_dir(dir).stdin(Stdio::null());
    command
}

/// The demonstration counts right, and what it started and made is gone when it ends.
fn assert_clean(mut demo: Command, protocol: &str, dir: &Path) {
    let output = demo.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{protocol}: {said}");
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&document["protocol"], &document["audit"]["balanced"]), (&protocol.into(), &true.into()), "{said}");
    let left: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{protocol} leaves {left:?}");
    // The keeper of a server is let go with it, and may take a moment to end.
    eventually("all processes to end", || processes(dir).is_empty());
}

/// The processes whose arguments or working directory tell of a directory.
fn processes(dir: &Path) -> Vec<String> {
    let text = dir.to_str().unwrap();
    let entries = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let concerned = entries.filter(|process| {
        let arguments = fs::read(process.join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&arguments).contains(text)
            || fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(dir))
    });
    concerned.map(|process| process.display().to_string()).collect()
}

fn leaves_nothing(sandbox: &Sandbox, protocol: &str) {
    // The account of a server that root starts must be able to pass.
    fs::set_permissions(sandbox.dir(), fs::Permissions::from_mode(0o711)).unwrap();
    assert_clean(demo(Path::new(env!("CARGO_BIN_EXE_ipcm")), protocol, sandbox.dir()), protocol, sandbox.dir());
}

fn as_an_ordinary_user(sandbox: &Sandbox) {
    fs::set_permissions(sandbox.dir(), fs::Permissions::from_mode(0o711)).unwrap();
    // Where the tests are built may be nowhere that another user can go.
    let program = sandbox.dir().join("ipcm");
    fs::copy(env!("CARGO_BIN_EXE_ipcm"), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let home = sandbox.dir().join("home");
    fs::create_dir(&home).unwrap();
    fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).unwrap();
    chown(&home, Some(NOBODY), Some(NOBODY)).unwrap();
    let bells = Path::new("/tmp").join(format!("ipcm-{NOBODY}"));
    for protocol in ["SQLite", "JSONFile", "PostgreSQL", "MariaDB", "MySQL"] {
        let missing = match protocol {
            "PostgreSQL" => can_start(Engine::PostgreSQL).err(),
            "MariaDB" => can_start(Engine::MariaDb).err(),
            "MySQL" => can_start(Engine::MySql).err(),
            _ => None,
        };
        if let Some(missing) = missing {
            eprintln!("{protocol} is passed over: {missing}");
            continue;
        }
        let mut demo = demo(&program, protocol, &home);
        demo.uid(NOBODY).gid(NOBODY);
        assert_clean(demo, protocol, &home);
        assert!(!bells.exists(), "{protocol} leaves {}", bells.display());
    }
}
