// SPDX-License-Identifier: MIT OR Apache-2.0
//! Users and passwords by the databases' own mechanisms: environment variables and files that only their owner reads.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::system::access::Access;
use crate::system::files;

/// Largest file of passwords that is read, in bytes.
const LARGEST: usize = 1 << 20;

fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").map(PathBuf::from)
}

/// The login name of this process's user.
pub(super) fn login_name() -> Option<String> {
    let of_file = name_of(rustix::process::geteuid().as_raw());
    of_file.or_else(|| std::env::var("LOGNAME").ok()).or_else(|| std::env::var("USER").ok())
}

/// The login name of a user, where the system's own file has it.
pub(super) fn name_of(uid: u32) -> Option<String> {
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse::<u32>().ok()? == uid).then(|| name.to_owned())
    })
}

/// A file that others cannot read; none if it is not there, or if they can.
fn private_file(path: &Path) -> Option<String> {
    let stat = files::stat_at(rustix::fs::CWD, path.as_os_str()).ok().flatten()?;
    if stat.st_mode & 0o077 != 0 {
        log::warn!("{} can be read by others, and is not used", path.display());
        return None;
    }
    let parent = path.parent()?;
    let dir = files::open_dir(parent).ok()?;
    let content = {
        use std::os::fd::AsFd;
        files::read_small(dir.as_fd(), path.file_name().unwrap_or(OsStr::new("")), LARGEST, Access::Private)
            .ok()
            .flatten()?
    };
    String::from_utf8(content).ok()
}

/// What PostgreSQL's own clients take for a password: `PGPASSWORD`, else the file `PGPASSFILE` or `~/.pgpass`.
pub(super) fn postgresql_password(host: &str, port: u16, database: &str, user: &str) -> Option<String> {
    if let Ok(password) = std::env::var("PGPASSWORD") {
        return Some(password);
    }
    let file = std::env::var_os("PGPASSFILE").map(PathBuf::from).or_else(|| Some(home()?.join(".pgpass")))?;
    password_in(&private_file(&file)?, [host, &port.to_string(), database, user])
}

/// The password of the first line that fits: `host:port:database:user:password`, where `*` fits all, and a backslash
/// takes the next character as it is.
pub(super) fn password_in(text: &str, wanted: [&str; 4]) -> Option<String> {
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let mut fields = vec![String::new()];
        let mut is_star = vec![true];
        let mut chars = line.chars();
        while let Some(c) = chars.next() {
            match c {
                ':' if fields.len() < 5 => {
                    fields.push(String::new());
                    is_star.push(true);
                    continue;
                }
                '\\' => fields.last_mut()?.extend(chars.next()),
                c => fields.last_mut()?.push(c),
            }
            *is_star.last_mut()? = c != '\\' && fields.last()? == "*";
        }
        let password = fields.get(4)?.clone();
        let fits = |at: usize| is_star[at] && fields[at] == "*" || fields[at] == wanted[at];
        (0..4).all(fits).then_some(password)
    })
}

/// What the clients of MariaDB and MySQL take for user and password: `MYSQL_PWD`, else the section `[client]` of
/// `~/.my.cnf`.
pub(super) fn mysql_client() -> (Option<String>, Option<String>) {
    let text = home().and_then(|home| private_file(&home.join(".my.cnf"))).unwrap_or_default();
    let (user, password) = client_section(&text);
    (user, std::env::var("MYSQL_PWD").ok().or(password))
}

pub(super) fn client_section(text: &str) -> (Option<String>, Option<String>) {
    let (mut user, mut password, mut is_in) = (None, None, false);
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        if let Some(section) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            is_in = matches!(section, "client" | "client-server" | "client-mariadb");
        } else if let Some((key, value)) = line.split_once('=').filter(|_| is_in) {
            let value = value.trim().trim_matches(['"', '\'']).to_owned();
            match key.trim() {
                "user" => user = Some(value),
                "password" => password = Some(value),
                _ => {}
            }
        }
    }
    (user, password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_fits_gives_the_password() {
        let text = "# a comment\nother:5432:*:app:no\nlocalhost:*:db\\:1:app:se\\:cret\n*:*:*:*:last\n";
        assert_eq!(password_in(text, ["localhost", "5432", "db:1", "app"]).as_deref(), Some("se:cret"));
        assert_eq!(password_in(text, ["other", "5432", "x", "app"]).as_deref(), Some("no"));
        assert_eq!(password_in(text, ["x", "1", "y", "z"]).as_deref(), Some("last"));
        assert_eq!(password_in("a:b:c", ["a", "b", "c", "d"]), None);
    }

    #[test]
    fn the_client_section_gives_user_and_password() {
        let text = "[mysqld]\nuser=no\n[client]\nuser = app\npassword=\"se=cret\"\n[other]\nuser=x\n";
        assert_eq!(client_section(text), (Some("app".into()), Some("se=cret".into())));
    }
}
