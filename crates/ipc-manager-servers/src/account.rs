// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who we are, and whom a server runs as.

use std::fs;
use std::process::{Command, Stdio};

use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};

/// A line of `/etc/passwd`. System users are there, whatever else names users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

pub(crate) fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Whom to become before starting a server: nobody, unless we are root.
pub(crate) fn for_server(engine: Engine) -> Result<Option<Account>> {
    if own_uid() != 0 {
        return Ok(None);
    }
    let accounts = accounts();
    let found = engine.accounts().iter().find_map(|name| accounts.iter().find(|account| account.name == *name));
    match found {
        Some(account) if account.uid != 0 => Ok(Some(account.clone())),
        _ => {
            let detail =
                format!("{engine} must not run as root, and there is no user {}", engine.accounts().join(" or "));
            Err(Error::new(ErrorKind::NoAccount, "choose an account", detail))
        }
    }
}

/// The login name of the user that we run as: what clients of PostgreSQL take when they are told none.
pub(crate) fn own_name() -> String {
    let uid = own_uid();
    if let Some(account) = accounts().into_iter().find(|account| account.uid == uid) {
        return account.name;
    }
    // A user that is not in the file, such as one of a directory service.
    let output = Command::new("id").arg("-un").stdin(Stdio::null()).stderr(Stdio::null()).output();
    let name = output.ok().filter(|output| output.status.success());
    let name = name.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    name.filter(|name| !name.is_empty()).unwrap_or_else(|| "postgres".into())
}

fn accounts() -> Vec<Account> {
    let text = fs::read("/etc/passwd").unwrap_or_default();
    String::from_utf8_lossy(&text).lines().filter_map(parse).collect()
}

fn parse(line: &str) -> Option<Account> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?.to_owned();
    let uid = fields.nth(1)?.parse().ok()?;
    Some(Account { name, uid, gid: fields.next()?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_password_file() {
        let nobody = parse("nobody:x:65534:65533:nobody:/nonexistent:/usr/sbin/nologin");
        assert_eq!(nobody, Some(Account { name: "nobody".into(), uid: 65534, gid: 65533 }));
        for line in ["", "# comment", "x", "x:y", "x:y:z:1", "x:y:-2:-2::/:"] {
            assert_eq!(parse(line), None, "{line}");
        }
    }

    #[test]
    fn a_server_of_root_does_not_run_as_root() {
        let account = for_server(Engine::PostgreSQL).unwrap();
        assert_eq!(account.is_some(), own_uid() == 0);
        assert!(account.is_none_or(|account| account.uid != 0));
    }
}
