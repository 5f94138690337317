// SPDX-License-Identifier: MIT OR Apache-2.0
//! A connection to a PostgreSQL server: opened when it is needed, and again when it was lost.

use std::future::poll_fn;
use std::os::fd::BorrowedFd;
use std::pin::pin;
use std::task::Poll;

use bytes::BytesMut;
use tokio_postgres::Config;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use super::session::Session;
use super::stream::PORT;
use crate::protocol::Credentials;
use crate::protocol::sql::address::{Address, Host};
use crate::protocol::sql::dialect::{Driver, Runner};
use crate::protocol::sql::secret;
use crate::protocol::sql::value::{Column, Failure, Param, Row, Trouble, Value};

/// What every session begins with: the least isolation, so that a statement sees what was committed before it; bounded
/// waits for locks; the plans that are right for a queue, whatever the statistics say; and that readers are told only
/// where they are not rung for.
const SETTINGS: &str = "SET client_min_messages = warning; \
     SET default_transaction_isolation = 'read committed'; SET lock_timeout = '20s'; \
     SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off; SET jit = off; \
     SET ipcm.rings = 'itself'";

/// See the module.
#[derive(Debug)]
pub(super) struct PostgresDriver {
    address: Address,
    config: Config,
    session: Option<Session>,
    /// The channel that this mailbox is told of on.
    channel: Option<String>,
    /// A transaction was asked for, and begins with its first statement.
    is_beginning: bool,
    is_within: bool,
    /// The session was lost, and what it would have told is not known.
    may_have_missed: bool,
}

impl PostgresDriver {
    pub(super) fn open(address: Address, credentials: &Credentials) -> Result<Self, Failure> {
        let mut config = Config::new();
        config.dbname(&address.database).application_name("ipc-manager");
        let given = credentials.user().map(str::to_owned).or_else(|| address.user.clone());
        let user = given.or_else(|| std::env::var("PGUSER").ok()).or_else(secret::login_name);
        let user = user.ok_or_else(|| Failure::new(Trouble::Denied, "there is no user to be"))?;
        config.user(&user);
        let host = match &address.host {
            Host::Name(name) => name.clone(),
            _ => "localhost".to_owned(),
        };
        let port = address.port.unwrap_or(PORT);
        let password = credentials
            .password()
            .map(str::to_owned)
            .or_else(|| secret::postgresql_password(&host, port, &address.database, &user));
        if let Some(password) = password {
            config.password(password);
        }
        if let Some(options) = address.options.get("options") {
            config.options(options);
        }
        let mut driver = Self {
            address,
            config,
            session: None,
            channel: None,
            is_beginning: false,
            is_within: false,
            may_have_missed: false,
        };
        driver.session()?;
        Ok(driver)
    }

    /// The session, opened anew if there is none.
    fn session(&mut self) -> Result<&mut Session, Failure> {
        if self.session.is_none() {
            let mut session = Session::open(&self.address, &self.config)?;
            session.run(async |client| client.batch_execute(SETTINGS).await)?;
            if let Some(channel) = &self.channel {
                session.run(async |client| client.batch_execute(&listen_to(channel)).await)?;
            }
            self.session = Some(session);
        }
        self.session.as_mut().ok_or_else(|| Failure::new(Trouble::Lost, "there is no session"))
    }

    /// Gives up a session that was lost.
    fn noted<T>(&mut self, done: Result<T, Failure>) -> Result<T, Failure> {
        if done.as_ref().is_err_and(|failure| failure.trouble == Trouble::Lost) {
            self.session = None;
            self.may_have_missed = true;
        }
        done
    }

    fn run(&mut self, sql: &str, params: &[Param<'_>]) -> Result<Vec<tokio_postgres::Row>, Failure> {
        if self.is_within && self.session.is_none() {
            return Err(Failure::new(Trouble::Lost, "the transaction was lost"));
        }
        let is_beginning = self.is_beginning;
        let session = self.session()?;
        let run = session.prepare(sql).and_then(|statement| {
            let params: Vec<Bound<'_>> = params.iter().map(|param| Bound(*param)).collect();
            let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(|param| param as &(dyn ToSql + Sync)).collect();
            session.run(async |client| {
                if !is_beginning {
                    return client.query(&statement, &params).await;
                }
                // In one go: the server answers both, one after the other.
                let (mut begun, mut queried) = (None, None);
                let mut begin = pin!(client.batch_execute("BEGIN"));
                let mut query = pin!(client.query(&statement, &params));
                poll_fn(|context| {
                    if begun.is_none()
                        && let Poll::Ready(done) = begin.as_mut().poll(context)
                    {
                        begun = Some(done);
                    }
                    if queried.is_none()
                        && let Poll::Ready(done) = query.as_mut().poll(context)
                    {
                        queried = Some(done);
                    }
                    match (begun.take(), queried.take()) {
                        (Some(Err(error)), _) => Poll::Ready(Err(error)),
                        (Some(Ok(())), Some(done)) => Poll::Ready(done),
                        (still_begun, still_queried) => {
                            (begun, queried) = (still_begun, still_queried);
                            Poll::Pending
                        }
                    }
                })
                .await
            })
        });
        if is_beginning {
            (self.is_beginning, self.is_within) = (false, true);
        }
        self.noted(run)
    }

    fn execute_bound(&mut self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<u64, Failure> {
        if self.is_beginning {
            self.batch("BEGIN")?;
            (self.is_beginning, self.is_within) = (false, true);
        }
        if self.is_within && self.session.is_none() {
            return Err(Failure::new(Trouble::Lost, "the transaction was lost"));
        }
        let session = self.session()?;
        let run = session
            .prepare(sql)
            .and_then(|statement| session.run(async |client| client.execute(&statement, params).await));
        self.noted(run)
    }

    fn batch(&mut self, sql: &str) -> Result<(), Failure> {
        let run = self.session().and_then(|session| session.run(async |client| client.batch_execute(sql).await));
        self.noted(run)
    }
}

fn listen_to(channel: &str) -> String {
    // The channel is made of hexadecimal digits, by the server itself.
    format!("LISTEN \"{channel}\"")
}

use std::future::Future;

impl Runner for PostgresDriver {
    fn execute(&mut self, sql: &str, params: &[Param<'_>]) -> Result<u64, Failure> {
        if params.is_empty() && !self.is_beginning {
            // What makes tables need not be prepared.
            return self.batch(sql).map(|()| 0);
        }
        let params: Vec<Bound<'_>> = params.iter().map(|param| Bound(*param)).collect();
        let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(|param| param as &(dyn ToSql + Sync)).collect();
        self.execute_bound(sql, &params)
    }

    fn query(&mut self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, Failure> {
        let rows = self.run(sql, params)?;
        Ok(rows.iter().map(|row| Row::new((0..row.len()).map(|column| value(row, column)).collect())).collect())
    }
}

impl Driver for PostgresDriver {
    fn begin(&mut self) -> Result<(), Failure> {
        self.session()?;
        self.is_beginning = true;
        Ok(())
    }

    fn execute_columns(&mut self, sql: &str, columns: &[Column<'_>]) -> Option<Result<u64, Failure>> {
        let columns: Vec<Listed<'_>> = columns.iter().map(Listed).collect();
        let params: Vec<&(dyn ToSql + Sync)> = columns.iter().map(|column| column as &(dyn ToSql + Sync)).collect();
        Some(self.execute_bound(sql, &params))
    }

    fn commit(&mut self) -> Result<(), Failure> {
        if std::mem::take(&mut self.is_beginning) {
            return Ok(());
        }
        self.is_within = false;
        if self.session.is_none() {
            return Err(Failure::new(Trouble::Lost, "the transaction was lost"));
        }
        self.batch("COMMIT").map_err(|failure| match failure.trouble {
            Trouble::Lost => Failure { trouble: Trouble::InDoubt, ..failure },
            _ => failure,
        })
    }

    fn rollback(&mut self) {
        self.is_beginning = false;
        if std::mem::take(&mut self.is_within) && self.session.is_some() && self.batch("ROLLBACK").is_err() {
            self.session = None;
        }
    }

    fn check(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn listen(&mut self, name: &str) -> Result<(), Failure> {
        let rows = self.query("SELECT 'ipcm_' || md5(CAST($1 AS text))", &[Param::Text(name)])?;
        let channel = rows.into_iter().next().and_then(|mut row| row.next().into_text());
        let is_harmless = |channel: &String| channel.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if let Some(channel) = channel.filter(is_harmless) {
            self.batch(&listen_to(&channel))?;
            self.channel = Some(channel);
        }
        Ok(())
    }

    fn tell(&mut self, name: &str) -> Result<(), Failure> {
        self.query("SELECT CAST(pg_notify('ipcm_' || md5(CAST($1 AS text)), '') AS text)", &[Param::Text(name)])
            .map(drop)
    }

    fn take_notice(&mut self) -> bool {
        let noticed = self.session.as_mut().map(Session::take_notice);
        if let Some(Err(_)) = noticed {
            self.session = None;
            self.may_have_missed = true;
        }
        let has_missed = std::mem::take(&mut self.may_have_missed);
        has_missed || matches!(noticed, Some(Ok(true)))
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.channel.as_ref().and(self.session.as_ref()).map(Session::descriptor)
    }
}

/// A parameter as the server is sent it; the statements say themselves which type each has.
#[derive(Debug)]
struct Bound<'a>(Param<'a>);

impl ToSql for Bound<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self.0 {
            Param::Null => Ok(IsNull::Yes),
            Param::Integer(number) => number.to_sql(ty, out),
            Param::Seconds(seconds) => {
                let mut text = String::new();
                crate::json::write_stamp(seconds, &mut text);
                text.as_str().to_sql(ty, out)
            }
            Param::Text(text) => text.to_sql(ty, out),
            Param::Bytes(bytes) => bytes.to_sql(ty, out),
            Param::Bool(is_so) => is_so.to_sql(ty, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// A list of parameters as the server is sent it.
#[derive(Debug)]
struct Listed<'a>(&'a Column<'a>);

impl ToSql for Listed<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self.0 {
            Column::Texts(texts) => texts.to_sql(ty, out),
            Column::Seconds(all) => {
                let text = |seconds: &f64| {
                    let mut text = String::new();
                    crate::json::write_stamp(*seconds, &mut text);
                    text
                };
                all.iter().map(text).collect::<Vec<_>>().to_sql(ty, out)
            }
            Column::Bytes(all) => all.to_sql(ty, out),
            Column::Bools(all) => all.to_sql(ty, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

fn value(row: &tokio_postgres::Row, column: usize) -> Value {
    fn get<'a, T: FromSql<'a>>(row: &'a tokio_postgres::Row, column: usize) -> Option<T> {
        row.try_get::<_, Option<T>>(column).ok().flatten()
    }
    let ty = row.columns()[column].type_();
    let value = match *ty {
        Type::INT2 => get::<i16>(row, column).map(|number| Value::Integer(number.into())),
        Type::INT4 => get::<i32>(row, column).map(|number| Value::Integer(number.into())),
        Type::INT8 => get::<i64>(row, column).map(Value::Integer),
        Type::BOOL => get::<bool>(row, column).map(|is_so| Value::Integer(is_so.into())),
        Type::FLOAT4 => get::<f32>(row, column).map(|number| Value::Real(number.into())),
        Type::FLOAT8 => get::<f64>(row, column).map(Value::Real),
        Type::BYTEA => get::<Vec<u8>>(row, column).map(Value::Bytes),
        _ => get::<String>(row, column).map(Value::Text),
    };
    value.unwrap_or(Value::Null)
}
