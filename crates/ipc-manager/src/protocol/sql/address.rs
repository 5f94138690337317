// SPDX-License-Identifier: MIT OR Apache-2.0
//! Routes to servers: data source names as DBI writes them, and URLs. See `docs/formats.md`, "SQL stores".

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::encryption::Encryption;
use crate::error::{Error, ErrorKind, Result};
use crate::route::Route;

/// Where a database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) database: String,
    pub(super) host: Host,
    pub(super) port: Option<u16>,
    pub(super) user: Option<String>,
    /// Whether the connection must be, or must not be, encrypted.
    pub(super) encryption: Encryption,
    /// What else the server is asked for.
    pub(super) options: BTreeMap<String, String>,
}

/// How a server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Host {
    /// Where its own clients look for it.
    Default,
    Name(String),
    /// A Unix socket: for PostgreSQL the directory that it is in, else its path.
    Socket(PathBuf),
}

/// Which keys and which scheme a family of servers has.
#[derive(Debug)]
pub(super) struct Family {
    /// The protocol's short name, for errors.
    pub(super) protocol: &'static str,
    /// The names of its DBI drivers.
    pub(super) drivers: &'static [&'static str],
    /// The schemes of its URLs.
    pub(super) schemes: &'static [&'static str],
    /// What keys of its own begin with.
    pub(super) prefixes: &'static [&'static str],
    /// Whether a host that begins with a slash is a directory.
    pub(super) host_may_be_directory: bool,
}

impl Family {
    fn refuse(&self, what: &str) -> Error {
        // Without the route, which may hold what must not be shown.
        Error::new(ErrorKind::InvalidInfo, what).in_protocol(self.protocol)
    }

    /// Parses a route.
    pub(super) fn parse(&self, route: &Route) -> Result<Address> {
        let text = route.as_str();
        if let Some(dsn) = text.strip_prefix("dbi:").or_else(|| text.strip_prefix("DBI:")) {
            return self.parse_dsn(dsn);
        }
        match text.split_once("://") {
            Some((scheme, rest)) if self.schemes.contains(&scheme) => self.parse_url(rest),
            _ => Err(self.refuse(&format!(
                "the route is neither a data source name that begins with `dbi:{}:` nor a URL that begins with `{}://`",
                self.drivers[0], self.schemes[0]
            ))),
        }
    }

    /// The part after `dbi:`: the driver, maybe attributes in parentheses, then keys and values.
    fn parse_dsn(&self, dsn: &str) -> Result<Address> {
        let (driver, rest) = dsn.split_once(':').ok_or_else(|| self.refuse("the data source name has no driver"))?;
        let driver = driver.split('(').next().unwrap_or(driver);
        if !self.drivers.contains(&driver) {
            let known = self.drivers.join("` or `");
            return Err(self.refuse(&format!("the driver in the data source name must be `{known}`")));
        }
        let mut address = empty();
        for (at, pair) in rest.split([';', '&']).map(str::trim).filter(|pair| !pair.is_empty()).enumerate() {
            match pair.split_once('=') {
                Some((key, value)) => self.set(&mut address, key.trim(), unquoted(value.trim()))?,
                None if at == 0 => address.database = pair.to_owned(),
                None => return Err(self.refuse("a key in the data source name has no value")),
            }
        }
        self.checked(address)
    }

    fn set(&self, address: &mut Address, key: &str, value: &str) -> Result<()> {
        let key = self.prefixes.iter().find_map(|prefix| key.strip_prefix(prefix)).unwrap_or(key);
        match key.to_ascii_lowercase().as_str() {
            "dbname" | "db" | "database" => address.database = value.to_owned(),
            "host" | "hostaddr" | "hostname" => address.host = self.host(value),
            "socket" | "unix_socket" => address.host = Host::Socket(value.into()),
            "port" => {
                let port = value.parse().map_err(|_| self.refuse("the port is no number up to 65535"))?;
                address.port = Some(port);
            }
            "user" | "username" => address.user = Some(value.to_owned()),
            "password" | "pass" | "pwd" => {
                return Err(self.refuse(
                    "a password is no part of a route; give it beside the connection string, by environment or by file",
                ));
            }
            key if key.starts_with("ssl") || key == "tls" => {
                address.encryption.set(key, value).map_err(|what| self.refuse(&what))?;
            }
            other => drop(address.options.insert(other.to_owned(), value.to_owned())),
        }
        Ok(())
    }

    fn host(&self, value: &str) -> Host {
        match value {
            "" => Host::Default,
            path if path.starts_with('/') && self.host_may_be_directory => Host::Socket(path.into()),
            name => Host::Name(name.to_owned()),
        }
    }

    /// The part after the scheme: `[user@][host][:port]/database[?key=value&…]`.
    fn parse_url(&self, rest: &str) -> Result<Address> {
        let (before, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = before.split_once('/').unwrap_or((before, ""));
        let mut address = empty();
        let server = match authority.rsplit_once('@') {
            Some((user, server)) => {
                if user.contains(':') {
                    self.set(&mut address, "password", "")?;
                }
                address.user = Some(self.decoded(user)?).filter(|user| !user.is_empty());
                server
            }
            None => authority,
        };
        let (host, port) = match server.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port),
            _ => (server, ""),
        };
        address.host = self.host(&self.decoded(host.trim_matches(['[', ']']))?);
        if !port.is_empty() {
            self.set(&mut address, "port", port)?;
        }
        address.database = self.decoded(path)?;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| self.refuse("a key in the URL has no value"))?;
            self.set(&mut address, key, &self.decoded(value)?)?;
        }
        self.checked(address)
    }

    fn decoded(&self, text: &str) -> Result<String> {
        let wrong =
            || self.refuse("the URL has a `%` without two hexadecimal digits, or what it stands for is no text");
        let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
        while let Some((byte, after)) = rest.split_first() {
            rest = after;
            if *byte == b'%' {
                let (digits, after) = rest.split_first_chunk::<2>().ok_or_else(wrong)?;
                let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                let (high, low) = digit(digits[0]).zip(digit(digits[1])).ok_or_else(wrong)?;
                bytes.push(high << 4 | low);
                rest = after;
            } else {
                bytes.push(*byte);
            }
        }
        String::from_utf8(bytes).map_err(|_| wrong())
    }

    fn checked(&self, address: Address) -> Result<Address> {
        if address.database.is_empty() {
            return Err(self.refuse("the route names no database"));
        }
        Ok(address)
    }

    /// The route as the reference implementation reads it, without the user. Refused if that would be another place: a URL
    /// can say what a data source name cannot.
    pub(super) fn dsn(&self, address: &Address) -> Result<Route> {
        let prefix = self.prefixes.first().copied().unwrap_or_default();
        let mut dsn = format!("dbi:{}:dbname={}", self.drivers[0], address.database);
        match &address.host {
            Host::Default => {}
            Host::Name(name) => dsn.push_str(&format!(";host={name}")),
            Host::Socket(path) if self.host_may_be_directory => dsn.push_str(&format!(";host={}", path.display())),
            Host::Socket(path) => dsn.push_str(&format!(";{prefix}socket={}", path.display())),
        }
        if let Some(port) = address.port {
            dsn.push_str(&format!(";port={port}"));
        }
        address.encryption.push_to(&mut dsn, prefix);
        for (key, value) in &address.options {
            dsn.push_str(&format!(";{prefix}{key}={value}"));
        }
        let route = Route::new(&dsn)?;
        if !self.parse(&route).is_ok_and(|read| read.is_place_of(address)) {
            return Err(self.refuse("the route has a value that no data source name can have"));
        }
        Ok(route)
    }
}

impl Address {
    /// Whether both are one database, reached in one way, whoever asks.
    pub(super) fn is_place_of(&self, other: &Self) -> bool {
        let Self { database, host, port, user: _, encryption, options } = self;
        (database, host, port, options) == (&other.database, &other.host, &other.port, &other.options)
            && encryption.means(&other.encryption)
    }

    /// Refuses encryption that cannot be had, before anything is sent. `sockets_need_none`: the family has it that nothing
    /// about encryption applies to what does not leave the machine.
    pub(super) fn check_encryption(&self, sockets_need_none: bool, is_built_in: bool) -> Result<()> {
        let Some(mode) = self.encryption.mode().filter(|mode| mode.is_must()) else { return Ok(()) };
        let why = match &self.host {
            Host::Name(_) if is_built_in => return Ok(()),
            Host::Name(_) => "this program was built without the feature `tls`",
            _ if sockets_need_none => return Ok(()),
            _ => "a Unix socket is not encrypted; name a host",
        };
        let detail = format!("the route asks for an encrypted connection ({}), and {why}", mode.name());
        Err(Error::new(ErrorKind::Unsupported, detail))
    }

    /// What tells the database from every other on this machine, however the route is spelled.
    pub(super) fn canonical(&self) -> String {
        let host = match &self.host {
            Host::Default => String::new(),
            Host::Name(name) if matches!(name.as_str(), "localhost" | "127.0.0.1" | "::1") => "localhost".into(),
            Host::Name(name) => name.to_ascii_lowercase(),
            Host::Socket(path) => std::fs::canonicalize(path).unwrap_or_else(|_| path.clone()).display().to_string(),
        };
        let port = self.port.map_or_else(String::new, |port| port.to_string());
        let options: Vec<String> = self.options.iter().map(|(key, value)| format!("{key}={value}")).collect();
        [host, port, self.database.clone(), options.join(";")].join("\n")
    }
}

fn empty() -> Address {
    Address {
        database: String::new(),
        host: Host::Default,
        port: None,
        user: None,
        encryption: Encryption::default(),
        options: BTreeMap::new(),
    }
}

/// A value without the quotes that it may stand in.
fn unquoted(value: &str) -> &str {
    value.strip_prefix('\'').and_then(|value| value.strip_suffix('\'')).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::sql::encryption::Mode;

    const PG: Family = Family {
        protocol: "PostgreSQL",
        drivers: &["Pg"],
        schemes: &["postgres", "postgresql"],
        prefixes: &[],
        host_may_be_directory: true,
    };
    const MY: Family = Family {
        protocol: "MariaDB",
        drivers: &["MariaDB", "mysql"],
        schemes: &["mariadb"],
        prefixes: &["mariadb_", "mysql_"],
        host_may_be_directory: false,
    };

    fn parse(family: &Family, route: &str) -> Result<Address> {
        family.parse(&Route::new(route).unwrap())
    }

    #[test]
    fn data_source_names() {
        let address = parse(&PG, "dbi:Pg:dbname=quickdb;host=/run/pg").unwrap();
        assert_eq!((address.database.as_str(), &address.host), ("quickdb", &Host::Socket("/run/pg".into())));
        let address = parse(&PG, "dbi:Pg(RaiseError=>1):db=a;host=db.example;port=5433;sslmode=require").unwrap();
        assert_eq!(
            (address.database.as_str(), address.port, address.encryption.mode()),
            ("a", Some(5433), Some(Mode::Require))
        );
        let address = parse(&MY, "dbi:MariaDB:dbname=q;mariadb_socket=/run/my/mysql.sock").unwrap();
        assert_eq!(address.host, Host::Socket("/run/my/mysql.sock".into()));
        assert_eq!(parse(&MY, "dbi:mysql:q;mysql_socket=/x").unwrap().database, "q");
        for route in ["dbi:Pg:dbname=a;host=h;port=1", "dbi:Pg:dbname=a;host=/s"] {
            assert_eq!(PG.dsn(&parse(&PG, route).unwrap()).unwrap().as_str(), { route });
        }
    }

    #[test]
    fn urls() {
        let address = parse(&PG, "postgres://app@db.example:5433/my%20db?options=x").unwrap();
        assert_eq!(
            (address.user.as_deref(), address.port, address.database.as_str()),
            (Some("app"), Some(5433), "my db")
        );
        assert_eq!(parse(&PG, "postgresql:///a?host=/run/pg").unwrap().host, Host::Socket("/run/pg".into()));
        assert_eq!(parse(&PG, "postgres://%2Frun%2Fpg/a").unwrap().host, Host::Socket("/run/pg".into()));
        assert_eq!(parse(&MY, "mariadb://[::1]:3307/a").unwrap().host, Host::Name("::1".into()));
    }

    #[test]
    fn what_a_data_source_name_cannot_say_is_refused() {
        for route in
            ["postgres://h/a%3Bhost=elsewhere", "postgres:///%20", "postgres://h/%27a%27", "postgres://h/a?x=y%3D;z"]
        {
            let address = parse(&PG, route).unwrap();
            assert_eq!(PG.dsn(&address).unwrap_err().kind(), ErrorKind::InvalidInfo, "{route}");
        }
        assert_eq!(
            PG.dsn(&parse(&PG, "postgres://app@h/a%20b").unwrap()).unwrap().as_str(),
            "dbi:Pg:dbname=a b;host=h"
        );
        // Without a certificate to trust there is no word for it, and less would be read.
        let weaker = parse(&MY, "mariadb://h/a?ssl-mode=verify_ca").unwrap();
        assert_eq!(MY.dsn(&weaker).unwrap_err().kind(), ErrorKind::InvalidInfo);
        let checked = parse(&MY, "mariadb://h/a?ssl-mode=verify_identity&ssl-ca=/ca").unwrap();
        assert!(parse(&MY, MY.dsn(&checked).unwrap().as_str()).unwrap().is_place_of(&checked));
        for bad in ["postgres://h/%+f", "postgres://h/%f", "postgres://h/a%", "postgres://h/%\u{e9}"] {
            assert!(parse(&PG, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn encryption_that_cannot_be_had_is_refused() {
        let check = |family: &Family, route: &str, is_built_in| {
            let checked = parse(family, route).unwrap().check_encryption(family.host_may_be_directory, is_built_in);
            checked.map_err(|error| error.kind())
        };
        for route in ["dbi:Pg:dbname=a;host=h;sslmode=require", "postgres://h/a?sslmode=verify-full"] {
            assert_eq!(check(&PG, route, true), Ok(()));
            assert_eq!(check(&PG, route, false), Err(ErrorKind::Unsupported), "{route}");
        }
        for route in ["dbi:Pg:dbname=a;host=h;sslmode=prefer", "dbi:Pg:dbname=a;host=/s;sslmode=require"] {
            assert_eq!(check(&PG, route, false), Ok(()), "{route}");
        }
        assert_eq!(check(&MY, "mariadb://h/a?ssl-mode=REQUIRED", false), Err(ErrorKind::Unsupported));
        let socket = "dbi:MariaDB:dbname=a;mariadb_socket=/s;mariadb_ssl=1";
        assert_eq!(check(&MY, socket, true), Err(ErrorKind::Unsupported));
    }

    #[test]
    fn what_is_refused_does_not_show_a_password() {
        let bad = [
            "dbi:Pg:dbname=a;password=secret",
            "postgres://app:secret@h/a",
            "postgres://h/a?password=secret",
            "dbi:Oracle:a;pass=secret",
            "postgres://h/%zzsecret",
            "dbi:Pg:host=secret",
            "/secret",
        ];
        for bad in bad {
            let error = parse(&PG, bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInfo, "{bad}");
            assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
        }
    }
}
