// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where an error happened.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

/// Where an error happened: as much of it as is known.
///
/// ```
/// let place = ipc_manager::Place::default();
/// assert!(place.peer().is_none());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    pub(super) protocol: Option<String>,
    pub(super) route: Option<String>,
    pub(super) peer: Option<String>,
    pub(super) message_id: Option<String>,
    pub(super) path: Option<PathBuf>,
    pub(super) offset: Option<usize>,
    pub(super) table: Option<String>,
}

impl Place {
    /// The protocol's short name.
    #[must_use]
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// The route of the bus.
    #[must_use]
    pub fn route(&self) -> Option<&str> {
        self.route.as_deref()
    }

    /// The peer that it was about.
    #[must_use]
    pub fn peer(&self) -> Option<&str> {
        self.peer.as_deref()
    }

    /// The message that it was about.
    #[must_use]
    pub fn message_id(&self) -> Option<&str> {
        self.message_id.as_deref()
    }

    /// The file that it was about.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The table of a database that it was about; the row is that of the message or peer.
    #[must_use]
    pub fn table(&self) -> Option<&str> {
        self.table.as_deref()
    }

    /// Byte offset into the text, file or payload.
    #[must_use]
    pub fn offset(&self) -> Option<usize> {
        self.offset
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        let mut part = |f: &mut fmt::Formatter<'_>, name: &str, value: &dyn fmt::Display| {
            let written = write!(f, "{separator}{name} {value}");
            separator = ", ";
            written
        };
        if let Some(protocol) = &self.protocol {
            part(f, "protocol", protocol)?;
        }
        // A path lies within the route, so it says both.
        match (&self.path, &self.route) {
            (Some(path), _) => part(f, "path", &Escaped(&path.to_string_lossy()))?,
            (None, Some(route)) => part(f, "route", &Escaped(route))?,
            (None, None) => {}
        }
        if let Some(table) = &self.table {
            part(f, "table", table)?;
        }
        if let Some(peer) = &self.peer {
            part(f, "peer", &Escaped(peer))?;
        }
        if let Some(id) = &self.message_id {
            part(f, "message", &Escaped(id))?;
        }
        if let Some(offset) = self.offset {
            part(f, "byte", &offset)?;
        }
        Ok(())
    }
}

/// A text without the passwords that somebody wrote into it, as `password=...` or as `//user:password@`: they have no place
/// in a connection string, and whoever puts one there shall not find it in a log.
pub(crate) fn redacted(text: &str) -> Cow<'_, str> {
    const KEYS: [&str; 4] = ["password", "passwd", "pass", "pwd"];
    // Paths are not looked into: a directory may be called so.
    if !text.contains("://") && !text.to_ascii_lowercase().contains("dbi:") {
        return Cow::Borrowed(text);
    }
    let mut secrets = Vec::new();
    for (at, _) in text.match_indices('=') {
        let key = text[..at].trim_end().to_ascii_lowercase();
        if KEYS.iter().any(|known| key.ends_with(known)) {
            let value = at + 1 + text[at + 1..].len() - text[at + 1..].trim_start().len();
            let quote = text[value..].chars().next().filter(|c| matches!(c, '\'' | '"'));
            let start = value + quote.map_or(0, char::len_utf8);
            let ends = |c: char| quote.map_or(matches!(c, ';' | '&' | '"' | '\\' | ' ' | ','), |quote| c == quote);
            secrets.push(start..text[start..].find(ends).map_or(text.len(), |length| start + length));
        }
    }
    for (at, _) in text.match_indices("://") {
        let rest = &text[at + 3..];
        let authority = &rest[..rest.find(['/', '?', '"', ' ']).unwrap_or(rest.len())];
        if let Some((user, _)) = authority.rsplit_once('@')
            && let Some(colon) = user.find(':')
        {
            secrets.push(at + 3 + colon + 1..at + 3 + user.len());
        }
    }
    secrets.retain(|secret| !secret.is_empty());
    if secrets.is_empty() {
        return Cow::Borrowed(text);
    }
    secrets.sort_by_key(|secret| secret.start);
    let (mut shown, mut from) = (String::with_capacity(text.len()), 0);
    for secret in secrets {
        if secret.start >= from {
            shown.push_str(&text[from..secret.start]);
            shown.push_str("***");
        }
        from = from.max(secret.end);
    }
    shown.push_str(&text[from..]);
    Cow::Owned(shown)
}

/// Shows text of unknown origin on one line, cut to a readable length, with control characters escaped and passwords left
/// out.
pub(crate) struct Escaped<'a>(pub(crate) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 200;
        for (count, c) in redacted(self.0).chars().enumerate() {
            if count == SHOWN {
                return f.write_str("...");
            }
            if c.is_control() { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_left_out() {
        for (text, shown) in [
            ("dbi:Pg:dbname=a;password=s3cret;host=b", "dbi:Pg:dbname=a;password=***;host=b"),
            ("dbi:Pg:dbname=a;PWD = s3cret", "dbi:Pg:dbname=a;PWD = ***"),
            ("postgres://me:s3:cr@et@host/db?password=s3cret&x=1", "postgres://me:***@host/db?password=***&x=1"),
            (r#"["PostgreSQL","JSON","dbi:Pg:pass=s3cret"]"#, r#"["PostgreSQL","JSON","dbi:Pg:pass=***"]"#),
            ("DBI:mysql:mysql_password='s3 b;c';x", "DBI:mysql:mysql_password='***';x"),
        ] {
            assert_eq!(redacted(text), shown);
            assert!(!Escaped(text).to_string().contains("s3"));
        }
        for plain in [
            "/tmp/bus",
            "dbi:Pg:dbname=a;host=/x",
            "postgres://me@host:5432/db",
            "password",
            "dbi:x:password=",
            "/pass=1/bus",
        ] {
            assert_eq!(redacted(plain), plain);
        }
    }
}
