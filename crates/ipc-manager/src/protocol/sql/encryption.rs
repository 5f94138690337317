// SPDX-License-Identifier: MIT OR Apache-2.0
//! Encryption of connections to servers: what a route asks for, in the words of each family of servers.

use std::fmt::Write as _;

/// How far a connection is encrypted, from least to most; PostgreSQL's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mode {
    /// Not.
    Disable,
    /// If the server can.
    Prefer,
    /// Always, with whoever answers.
    Require,
    /// Always, and the server's certificate leads to one that is trusted.
    VerifyCa,
    /// Always, and the server's certificate is for the name of the host, too.
    VerifyFull,
}

impl Mode {
    /// PostgreSQL's names, those of MySQL's own clients, and yes and no.
    fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().replace('_', "-").as_str() {
            "disable" | "disabled" => Some(Self::Disable),
            // Whoever allows both gets what is safer.
            "prefer" | "preferred" | "allow" => Some(Self::Prefer),
            "require" | "required" => Some(Self::Require),
            "verify-ca" => Some(Self::VerifyCa),
            "verify-full" | "verify-identity" => Some(Self::VerifyFull),
            other => is_yes(other).map(|yes| if yes { Self::Require } else { Self::Disable }),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }

    /// Whether an open connection is an error.
    pub(super) fn is_must(self) -> bool {
        self >= Self::Require
    }
}

/// What a route says of encryption.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Encryption {
    mode: Option<Mode>,
    /// The file with the certificates that are trusted.
    root: Option<String>,
    checks_name: bool,
    is_optional: bool,
}

impl Encryption {
    /// Takes a key that begins with `ssl`, or is `tls`. One that is not understood is refused: without it the connection
    /// would not be what the route asks for.
    pub(super) fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let yes = || is_yes(value).ok_or_else(|| format!("the value of `{key}` is neither yes nor no"));
        match key.replace('_', "-").as_str() {
            "ssl" | "tls" | "sslmode" | "ssl-mode" => {
                let mode = Mode::parse(value).ok_or_else(|| {
                    format!("`{key}` must be one of disable, prefer, require, verify-ca, verify-full, 0 and 1")
                })?;
                self.mode = Some(mode);
            }
            "sslrootcert" | "ssl-ca" | "ssl-ca-file" => {
                self.root = Some(value.to_owned()).filter(|path| !path.is_empty())
            }
            "ssl-verify-server-cert" => self.checks_name = yes()?,
            "ssl-optional" => self.is_optional = yes()?,
            _ => return Err(format!("`{key}` is not known here, and nothing about encryption is passed over")),
        }
        Ok(())
    }

    /// What holds, all keys taken together. Whoever says which certificates are trusted wants that to be checked.
    pub(super) fn mode(&self) -> Option<Mode> {
        let checked = match (self.checks_name, &self.root) {
            (true, _) => Some(Mode::VerifyFull),
            (false, Some(_)) => Some(Mode::VerifyCa),
            (false, None) => None,
        };
        match (self.mode, checked) {
            (Some(mode @ (Mode::Disable | Mode::Prefer)), _) => Some(mode),
            (_, _) if self.is_optional => Some(Mode::Prefer),
            (mode, checked) => mode.max(checked),
        }
    }

    /// The file with the certificates that are trusted, where the route names one.
    #[cfg(feature = "tls")]
    pub(super) fn root(&self) -> Option<&str> {
        self.root.as_deref()
    }

    /// Whether both ask for the same, in whatever words.
    pub(super) fn means(&self, other: &Self) -> bool {
        let mode = self.mode();
        mode == other.mode() && (mode == Some(Mode::Disable) || self.root == other.root)
    }

    /// Appends it to a data source name, with the keys that the reference implementation's driver knows.
    pub(super) fn push_to(&self, dsn: &mut String, prefix: &str) {
        let Some(mode) = self.mode() else { return };
        // Writing to a string cannot fail.
        let _ = match prefix {
            "" => write!(dsn, ";sslmode={}", mode.name()),
            _ => write!(dsn, ";{prefix}ssl={}", i32::from(mode != Mode::Disable)),
        };
        if mode == Mode::Disable {
            return;
        }
        if !prefix.is_empty() && mode == Mode::Prefer {
            let _ = write!(dsn, ";{prefix}ssl_optional=1");
        }
        if !prefix.is_empty() && mode == Mode::VerifyFull {
            let _ = write!(dsn, ";{prefix}ssl_verify_server_cert=1");
        }
        if let Some(root) = &self.root {
            let key = if prefix.is_empty() { "sslrootcert" } else { "ssl_ca_file" };
            let _ = write!(dsn, ";{prefix}{key}={root}");
        }
    }
}

fn is_yes(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Some(true),
        "" | "0" | "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(keys: &str) -> Result<Encryption, String> {
        let mut encryption = Encryption::default();
        for pair in keys.split(';').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap();
            encryption.set(key, value)?;
        }
        Ok(encryption)
    }

    #[test]
    fn what_the_keys_ask_for_together() {
        let cases = [
            ("", None),
            ("sslmode=disable", Some(Mode::Disable)),
            ("sslmode=allow", Some(Mode::Prefer)),
            ("ssl-mode=VERIFY_IDENTITY", Some(Mode::VerifyFull)),
            // As PostgreSQL has it: with a certificate to trust, it is checked.
            ("sslmode=require;sslrootcert=/ca", Some(Mode::VerifyCa)),
            ("sslmode=prefer;sslrootcert=/ca", Some(Mode::Prefer)),
            ("ssl=1", Some(Mode::Require)),
            ("ssl=0;ssl_ca_file=/ca", Some(Mode::Disable)),
            ("ssl=1;ssl_optional=1", Some(Mode::Prefer)),
            ("ssl=1;ssl_ca_file=/ca", Some(Mode::VerifyCa)),
            ("ssl=1;ssl_verify_server_cert=1", Some(Mode::VerifyFull)),
            // Never less than what somebody may have meant.
            ("ssl_ca_file=/ca", Some(Mode::VerifyCa)),
        ];
        for (keys, mode) in cases {
            assert_eq!(parse(keys).unwrap().mode(), mode, "{keys}");
        }
        for keys in ["sslmode=maybe", "sslcert=/x", "ssl_cipher=x", "ssl_optional=x"] {
            assert!(parse(keys).is_err(), "{keys}");
        }
    }

    #[test]
    fn what_is_written_asks_for_the_same() {
        for keys in ["sslmode=require", "sslmode=verify-ca;sslrootcert=/ca", "sslmode=prefer", "sslmode=disable"] {
            let mut dsn = String::new();
            parse(keys).unwrap().push_to(&mut dsn, "");
            assert_eq!(dsn, format!(";{keys}"));
        }
        for keys in ["ssl=1", "ssl=1;ssl_optional=1", "ssl=1;ssl_verify_server_cert=1;ssl_ca_file=/ca", "ssl=0"] {
            let (mut dsn, mut stripped) = (String::new(), String::new());
            parse(keys).unwrap().push_to(&mut dsn, "mariadb_");
            dsn.split("mariadb_").for_each(|part| stripped.push_str(part));
            assert_eq!(stripped, format!(";{keys}"));
        }
        let mut none = String::new();
        Encryption::default().push_to(&mut none, "mariadb_");
        assert_eq!(none, "");
    }
}
