// SPDX-License-Identifier: MIT OR Apache-2.0
//! A connection to a MariaDB or MySQL server: opened when it is needed, and again when it was lost.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder, Params, SslOpts, Value as MysqlValue};

use crate::protocol::Credentials;
use crate::protocol::sql::address::{Address, Host};
use crate::protocol::sql::dialect::{Driver, Runner};
use crate::protocol::sql::encryption::Mode;
use crate::protocol::sql::secret;
#[cfg(feature = "tls")]
use crate::protocol::sql::tls::is_untrusted;
use crate::protocol::sql::value::{Failure, Param, Row, Trouble, Value};

/// How long a server may take to let a client in, and to answer.
const CONNECTING: Duration = Duration::from_secs(10);
const ANSWERING: Duration = Duration::from_secs(60);
/// Most statements that are kept prepared.
const STATEMENTS: usize = 64;
/// Where sockets are on Debian, on Red Hat and elsewhere.
const SOCKETS: [&str; 4] =
    ["/run/mysqld/mysqld.sock", "/var/lib/mysql/mysql.sock", "/var/run/mysqld/mysqld.sock", "/tmp/mysql.sock"];

/// What every session begins with: statements see what was committed before them; nothing is cut to fit; waits for locks
/// are bounded.
const SETTINGS: [&str; 4] = [
    // As our own tables compare, so that the planner sees that an index gives the order.
    "SET NAMES utf8mb4 COLLATE utf8mb4_bin",
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'",
    "SET SESSION innodb_lock_wait_timeout = 20",
];

/// See the module.
#[derive(Debug)]
pub(super) struct MysqlDriver {
    options: OptsBuilder,
    /// How far a session must be encrypted.
    mode: Mode,
    session: Option<Conn>,
    /// Whether the server takes several statements as one that has parameters.
    takes_blocks: bool,
    /// A transaction was asked for, and begins with its first statement.
    is_beginning: bool,
    /// A transaction was begun on the session that was open then.
    is_within: bool,
}

impl MysqlDriver {
    /// `takes_blocks`: whether the server takes several statements as one that has parameters.
    pub(super) fn open(address: Address, credentials: &Credentials, takes_blocks: bool) -> Result<Self, Failure> {
        let (file_user, file_password) = secret::mysql_client();
        let given = credentials.user().map(str::to_owned).or(address.user);
        let user = given.or(file_user).or_else(secret::login_name);
        let password = credentials.password().map(str::to_owned).or(file_password);
        let mut options = OptsBuilder::new()
            .user(user)
            .pass(password)
            .db_name(Some(&address.database))
            .tcp_connect_timeout(Some(CONNECTING))
            .read_timeout(Some(ANSWERING))
            .write_timeout(Some(ANSWERING))
            .stmt_cache_size(Some(STATEMENTS))
            .prefer_socket(false)
            .init(SETTINGS.map(str::to_owned).to_vec());
        options = match address.host {
            Host::Socket(path) => options.socket(path.to_str().map(str::to_owned)),
            Host::Default => {
                let there = SOCKETS.iter().find(|path| std::path::Path::new(path).exists());
                options.socket(Some((*there.unwrap_or(&SOCKETS[0])).to_owned()))
            }
            Host::Name(name) => options.ip_or_hostname(Some(name)).tcp_port(address.port.unwrap_or(3306)),
        };
        let mode = address.encryption.mode().unwrap_or(Mode::Disable);
        #[cfg(feature = "tls")]
        let options = options.ssl_opts(super::tls::options(&address.encryption, mode)?);
        let mut driver = Self { options, mode, session: None, takes_blocks, is_beginning: false, is_within: false };
        driver.session()?;
        Ok(driver)
    }

    /// The session, opened anew if there is none.
    fn session(&mut self) -> Result<&mut Conn, Failure> {
        if self.session.is_none() {
            if self.is_within {
                return Err(Failure::new(Trouble::Lost, "the transaction was lost"));
            }
            let opened = match Conn::new(self.options.clone()) {
                Err(mysql::Error::DriverError(mysql::DriverError::TlsNotSupported)) if !self.mode.is_must() => {
                    Conn::new(self.options.clone().ssl_opts(None::<SslOpts>))
                }
                opened => opened,
            };
            let opened = opened.map_err(|error| {
                let failure = failure(error);
                match failure.trouble {
                    Trouble::Lost => Failure { trouble: Trouble::Unreachable, ..failure },
                    _ => failure,
                }
            });
            self.session = Some(opened?);
        }
        self.session.as_mut().ok_or_else(|| Failure::new(Trouble::Lost, "there is no session"))
    }

    /// Gives up a session that was lost.
    fn noted<T>(&mut self, done: Result<T, Failure>) -> Result<T, Failure> {
        if done.as_ref().is_err_and(|failure| failure.trouble == Trouble::Lost) {
            self.session = None;
        }
        done
    }

    /// Begins the transaction that was asked for.
    fn begin_now(&mut self) -> Result<(), Failure> {
        if std::mem::take(&mut self.is_beginning) {
            self.simple("BEGIN")?;
            self.is_within = true;
        }
        Ok(())
    }

    /// Begins the transaction that was asked for, and runs its first statement, in one go.
    fn begin_with(&mut self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, Failure> {
        self.is_beginning = false;
        let block = format!("BEGIN NOT ATOMIC START TRANSACTION; {sql}; END");
        let run = |session: &mut Conn| {
            let mut rows = Vec::new();
            let mut results = session.exec_iter(block, bound(params))?;
            while let Some(result) = results.iter() {
                for row in result {
                    rows.push(Row::new(row?.unwrap_raw().into_iter().map(value).collect()));
                }
            }
            Ok(rows)
        };
        let done = match run(self.session()?) {
            // One that is too old, or something between us and it, has not begun.
            Err(mysql::Error::MySqlError(error)) if matches!(error.code, 1064 | 1295) => {
                self.takes_blocks = false;
                self.simple("BEGIN")?;
                self.is_within = true;
                return self.query(sql, params);
            }
            done => done.map_err(failure),
        };
        // Where the statement failed, too: what is undone then is the statement.
        self.is_within = true;
        self.noted(done)
    }

    fn simple(&mut self, sql: &str) -> Result<(), Failure> {
        let done = self.session().and_then(|session| session.query_drop(sql).map_err(failure));
        self.noted(done)
    }
}

impl Runner for MysqlDriver {
    fn execute(&mut self, sql: &str, params: &[Param<'_>]) -> Result<u64, Failure> {
        self.begin_now()?;
        let run = |session: &mut Conn| {
            if params.is_empty() {
                session.query_drop(sql)?;
            } else {
                session.exec_drop(sql, bound(params))?;
            }
            Ok(session.affected_rows())
        };
        let done = self.session().and_then(|session| run(session).map_err(failure));
        self.noted(done)
    }

    fn query(&mut self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, Failure> {
        if self.is_beginning && !params.is_empty() {
            return self.begin_with(sql, params);
        }
        self.begin_now()?;
        let run = |session: &mut Conn| {
            let rows: Vec<mysql::Row> = session.exec(sql, bound(params))?;
            Ok(rows.into_iter().map(|row| Row::new(row.unwrap_raw().into_iter().map(value).collect())).collect())
        };
        let done = self.session().and_then(|session| run(session).map_err(failure));
        self.noted(done)
    }
}

impl Driver for MysqlDriver {
    fn begin(&mut self) -> Result<(), Failure> {
        self.is_within = false;
        self.session()?;
        self.is_beginning = true;
        if self.takes_blocks { Ok(()) } else { self.begin_now() }
    }

    fn commit(&mut self) -> Result<(), Failure> {
        if std::mem::take(&mut self.is_beginning) {
            return Ok(());
        }
        let done = self.simple("COMMIT").map_err(|failure| match failure.trouble {
            Trouble::Lost => Failure { trouble: Trouble::InDoubt, ..failure },
            _ => failure,
        });
        self.is_within = false;
        done
    }

    fn rollback(&mut self) {
        self.is_beginning = false;
        if std::mem::take(&mut self.is_within) && self.session.is_some() && self.simple("ROLLBACK").is_err() {
            self.session = None;
        }
    }

    fn check(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn listen(&mut self, _: &str) -> Result<(), Failure> {
        Ok(())
    }

    fn take_notice(&mut self) -> bool {
        false
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

fn bound(params: &[Param<'_>]) -> Params {
    if params.is_empty() {
        return Params::Empty;
    }
    let bind = |param: &Param<'_>| match *param {
        Param::Null => MysqlValue::NULL,
        Param::Integer(number) => MysqlValue::Int(number),
        Param::Bool(is_so) => MysqlValue::Int(is_so.into()),
        Param::Seconds(seconds) => MysqlValue::Double(seconds),
        Param::Text(text) => MysqlValue::Bytes(text.as_bytes().to_vec()),
        Param::Bytes(bytes) => MysqlValue::Bytes(bytes.to_vec()),
    };
    Params::Positional(params.iter().map(bind).collect())
}

fn value(value: Option<MysqlValue>) -> Value {
    match value {
        Some(MysqlValue::Bytes(bytes)) => Value::Bytes(bytes),
        Some(MysqlValue::Int(number)) => Value::Integer(number),
        Some(MysqlValue::UInt(number)) => i64::try_from(number).map_or(Value::Null, Value::Integer),
        Some(MysqlValue::Float(number)) => Value::Real(number.into()),
        Some(MysqlValue::Double(number)) => Value::Real(number),
        _ => Value::Null,
    }
}

/// What an error of the server or of the session means; the manuals' lists of error codes.
fn failure(error: mysql::Error) -> Failure {
    let trouble = match &error {
        mysql::Error::IoError(io) if io.kind() == std::io::ErrorKind::PermissionDenied => Trouble::Denied,
        #[cfg(feature = "tls")]
        mysql::Error::IoError(io) if is_untrusted(io) => Trouble::Untrusted,
        #[cfg(feature = "tls")]
        mysql::Error::CodecError(error) if is_untrusted(error) => Trouble::Untrusted,
        #[cfg(feature = "tls")]
        mysql::Error::TlsError(_) => Trouble::Untrusted,
        mysql::Error::DriverError(mysql::DriverError::TlsNotSupported) => Trouble::Unable,
        mysql::Error::IoError(_) | mysql::Error::CodecError(_) => Trouble::Lost,
        mysql::Error::DriverError(mysql::DriverError::CouldNotConnect(_) | mysql::DriverError::ConnectTimeout) => {
            Trouble::Unreachable
        }
        mysql::Error::MySqlError(error) => match error.code {
            // 1048: the recipient that was selected is not there any more.
            1213 | 1020 | 1452 | 1048 => Trouble::Conflict,
            1205 | 3572 => Trouble::Busy,
            1062 | 1050 | 1060 | 1061 | 1022 => Trouble::Duplicate,
            1146 | 1049 => Trouble::Missing,
            1044 | 1045 | 1142 | 1143 | 1227 | 1370 | 1419 | 1698 => Trouble::Denied,
            1040 | 1203 | 1226 => Trouble::Unreachable,
            1053 | 1077 | 1079 | 1152..=1161 | 1184 | 1317 | 1927 | 3168 | 3169 | 4031 => Trouble::Lost,
            _ => Trouble::Other,
        },
        _ => Trouble::Other,
    };
    Failure::new(trouble, error)
}
