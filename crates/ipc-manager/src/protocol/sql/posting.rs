// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sending inside a transaction of the application's own: the message is there if and only if the rest is.

use std::ffi::OsString;

use super::dialect::{Dialect, Runner};
use super::message_row::{Outbound, Tables};
use super::schema::Schema;
use super::statements::Statements;
use super::value::{Failure, Param, Row, Trouble, Value};
use crate::error::{Error, ErrorKind, Result, Stored};
use crate::protocol::beside::Beside;
use crate::protocol::{Envelope, PeerState, Receipt};
use crate::route::Route;
use crate::serializer::Serializer;
use crate::system::access::Access;
use crate::system::doorbell::Ringer;

/// A value that goes into a statement of [`Transaction`], or comes out of one.
///
/// ```
/// assert_ne!(ipc_manager::SqlValue::Null, ipc_manager::SqlValue::Integer(0));
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum SqlValue {
    /// Nothing.
    Null,
    /// A whole number.
    Integer(i64),
    /// A truth.
    Bool(bool),
    /// A number.
    Real(f64),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// Which database a transaction is on.
///
/// ```
/// # #[cfg(feature = "sqlite")]
/// # {
/// use ipc_manager::{Database, Transaction};
/// let mut connection = rusqlite::Connection::open_in_memory().unwrap();
/// let mut transaction = connection.transaction().unwrap();
/// let placeholder = if transaction.database() == Database::PostgreSql { "$1" } else { "?" };
/// assert_eq!(placeholder, "?");
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Database {
    /// A file of SQLite.
    Sqlite,
    /// A PostgreSQL server. Its parameters are `$1`, `$2` and so on.
    PostgreSql,
    /// A MariaDB server.
    MariaDb,
    /// A MySQL server.
    MySql,
}

/// A transaction that an application has begun on a connection of its own, on the database that a bus is in.
///
/// It is implemented for the transactions of `rusqlite`, `postgres` and `mysql`, as far as the features are on; for other
/// drivers implement it yourself.
///
/// ```
/// # #[cfg(feature = "sqlite")]
/// # {
/// use ipc_manager::{SqlValue, Transaction};
/// let mut connection = rusqlite::Connection::open_in_memory().unwrap();
/// let mut own = connection.transaction().unwrap();
/// let transaction: &mut dyn Transaction = &mut own;
/// transaction.execute("CREATE TABLE orders (number INTEGER)", &[]).unwrap();
/// transaction.execute("INSERT INTO orders VALUES (?)", &[SqlValue::Integer(7)]).unwrap();
/// let rows = transaction.query("SELECT number FROM orders", &[]).unwrap();
/// assert_eq!(rows, [[SqlValue::Integer(7)]]);
/// # }
/// ```
pub trait Transaction {
    /// Which database it is on.
    fn database(&mut self) -> Database;

    /// Runs a statement and gives its rows.
    ///
    /// # Errors
    /// What the database says.
    fn query(
        &mut self,
        sql: &str,
        params: &[SqlValue],
    ) -> std::result::Result<Vec<Vec<SqlValue>>, Box<dyn std::error::Error + Send + Sync>>;

    /// Runs a statement and says how many rows it changed.
    ///
    /// # Errors
    /// What the database says.
    fn execute(
        &mut self,
        sql: &str,
        params: &[SqlValue],
    ) -> std::result::Result<u64, Box<dyn std::error::Error + Send + Sync>>;
}

/// A message that was stored in a transaction that is not committed yet.
#[derive(Debug)]
pub(crate) struct Posting {
    pub(crate) receipt: Receipt,
    bell: Option<(Beside, OsString)>,
}

impl Posting {
    /// Rings the recipient's bell. To be called when the transaction was committed.
    pub(crate) fn ring(&self) {
        if let Some((beside, bell)) = &self.bell
            && let Ok(ringer) = Ringer::new(beside.porch())
        {
            ringer.ring(bell);
        }
    }
}

/// The texts of a database, and where its doorbells are.
fn means(database: Database, route: &Route, access: Access) -> Result<(&'static dyn Dialect, Option<Beside>)> {
    let missing = || Error::new(ErrorKind::Unsupported, "this build has no support for that database");
    // Servers decide themselves who may read.
    #[cfg(not(feature = "sqlite"))]
    let _ = access;
    match database {
        #[cfg(feature = "sqlite")]
        Database::Sqlite => Ok((super::sqlite::DIALECT, Beside::of_file(route, access))),
        #[cfg(feature = "postgresql")]
        Database::PostgreSql => Ok(super::postgresql::POSTGRESQL.means(route)),
        #[cfg(feature = "mysql")]
        Database::MariaDb => Ok(super::mysql::MARIADB.means(route)),
        #[cfg(feature = "mysql")]
        Database::MySql => Ok(super::mysql::MYSQL.means(route)),
        #[allow(unreachable_patterns, reason = "not where all features are on")]
        _ => Err(missing()),
    }
}

/// Stores a message within an application's transaction.
pub(crate) fn post(
    transaction: &mut dyn Transaction,
    protocol: &str,
    (route, access): (&Route, Access),
    serializer: &dyn Serializer,
    most_unread: Option<usize>,
    envelope: &Envelope<'_>,
) -> Result<Posting> {
    let database = transaction.database();
    let (dialect, beside) = means(database, route, access)?;
    let place = |error: Error| {
        let error = error.in_protocol(protocol).on_route(route.as_str()).about_peer(envelope.to().as_str());
        let stored = error.stored().unwrap_or(Stored::No);
        error.about_message(envelope.message().id().as_str()).with_stored(stored)
    };
    if dialect.protocol() != protocol {
        let detail = format!("the transaction is on {}, and the bus is not", dialect.protocol());
        return Err(place(Error::new(ErrorKind::Usage, detail)));
    }
    let failed = |failure| place(super::store::error_of(failure, "the message cannot be stored"));
    let mut driver = Borrowed(transaction, database);
    let schema = Schema::find(&mut driver, dialect).map_err(failed)?;
    if !schema.is_bus {
        let detail = "the database that the transaction is on has no tables of a bus";
        return Err(place(Error::new(ErrorKind::NoSuchBus, detail)));
    }
    let texts = Statements::new(dialect, &schema);
    let row = Outbound::new(Tables { dialect, schema: &schema, serializer }, envelope).map_err(place)?;
    let to = Param::Text(envelope.to().as_str());
    let rows = driver.query(&texts.peer, &[to]).map_err(failed)?;
    let known = rows.into_iter().filter_map(super::store::PeerRow::listed).find(|row| row.id == envelope.to().as_str());
    let porch = beside.as_ref().map(|beside| &**beside.porch());
    let state = known.as_ref().filter(|row| row.standing.is_active).and_then(|row| row.standing.state(porch));
    let (Some(known), Some(state)) = (known, state) else {
        return Err(place(Error::new(ErrorKind::NoSuchPeer, "no peer of that name is on the bus")));
    };
    if let Some(most) = most_unread {
        let params = [to, Param::Integer(i64::try_from(most).unwrap_or(i64::MAX))];
        let counted = driver.query(&texts.unread_up_to, &params).map_err(failed)?;
        let unread = counted.into_iter().next().and_then(|mut row| row.next().as_integer());
        if unread.is_some_and(|unread| usize::try_from(unread).is_ok_and(|unread| unread >= most)) {
            return Err(place(crate::protocol::room::full(most)));
        }
    }
    let mut params = Vec::with_capacity(9);
    row.push_to(&mut params, schema.more);
    params.extend([to, Param::integer_or_null(known.standing.pid.map(i64::from))]);
    if driver.execute(&texts.send_within, &params).map_err(failed)? == 0 {
        let detail = "the recipient has just left, or a message with this id is there already";
        return Err(place(Error::new(ErrorKind::NoSuchPeer, detail)));
    }
    let is_there = state == PeerState::Active;
    let bell = known.standing.holder().filter(|_| is_there).and_then(crate::protocol::beside::Holder::bell);
    let receipt = if is_there { Receipt::Delivered } else { Receipt::Stored };
    Ok(Posting { receipt, bell: beside.zip(bell) })
}

/// An application's transaction as the engine sees it: only statements, since when it ends is the application's say.
struct Borrowed<'a>(&'a mut dyn Transaction, Database);

impl std::fmt::Debug for Borrowed<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Borrowed")
    }
}

impl Runner for Borrowed<'_> {
    fn query(&mut self, sql: &str, params: &[Param<'_>]) -> std::result::Result<Vec<Row>, Failure> {
        let params = owned(self.1, params);
        let rows = self.0.query(sql, &params).map_err(|error| Failure::new(Trouble::Other, error))?;
        Ok(rows.into_iter().map(|row| Row::new(row.into_iter().map(found).collect())).collect())
    }

    fn execute(&mut self, sql: &str, params: &[Param<'_>]) -> std::result::Result<u64, Failure> {
        let params = owned(self.1, params);
        self.0.execute(sql, &params).map_err(|error| Failure::new(Trouble::Other, error))
    }
}

fn owned(database: Database, params: &[Param<'_>]) -> Vec<SqlValue> {
    let owned = |param: &Param<'_>| match *param {
        Param::Null => SqlValue::Null,
        Param::Integer(number) => SqlValue::Integer(number),
        Param::Bool(is_so) => SqlValue::Bool(is_so),
        // There the statements turn text into numbers, since a double has too few digits for some.
        Param::Seconds(seconds) if database == Database::PostgreSql => {
            let mut text = String::new();
            crate::json::write_stamp(seconds, &mut text);
            SqlValue::Text(text)
        }
        Param::Seconds(seconds) => SqlValue::Real(seconds),
        Param::Text(text) => SqlValue::Text(text.to_owned()),
        Param::Bytes(bytes) => SqlValue::Bytes(bytes.to_vec()),
    };
    params.iter().map(owned).collect()
}

fn found(value: SqlValue) -> Value {
    match value {
        SqlValue::Null => Value::Null,
        SqlValue::Integer(number) => Value::Integer(number),
        SqlValue::Bool(is_so) => Value::Integer(is_so.into()),
        SqlValue::Real(number) => Value::Real(number),
        SqlValue::Text(text) => Value::Text(text),
        SqlValue::Bytes(bytes) => Value::Bytes(bytes),
    }
}

/// The protocol and the route of a bus in the database that a connection is on.
pub(crate) fn place_of(transaction: &mut dyn Transaction) -> Result<(&'static str, Route)> {
    let database = transaction.database();
    let mut ask = |sql: &str| {
        let rows = transaction.query(sql, &[]);
        let rows = rows.map_err(|error| {
            Error::new(ErrorKind::Store, "the connection cannot be asked where its database is").with_source(error)
        })?;
        let row = rows.into_iter().next().unwrap_or_default();
        Ok::<_, Error>(row.into_iter().map(|value| found(value).into_text().unwrap_or_default()).collect::<Vec<_>>())
    };
    let (protocol, route) = match database {
        Database::Sqlite => {
            let row = ask("SELECT file FROM pragma_database_list WHERE name = 'main'")?;
            ("SQLite", row.concat())
        }
        Database::PostgreSql => {
            let row = ask("SELECT CAST(current_database() AS text), COALESCE(host(inet_server_addr()), \
                 split_part(current_setting('unix_socket_directories'), ',', 1)), current_setting('port')")?;
            let [name, host, port] = &row[..] else { return Err(no_place()) };
            ("PostgreSQL", format!("dbi:Pg:dbname={name};host={host};port={port}"))
        }
        Database::MariaDb | Database::MySql => {
            let row = ask("SELECT DATABASE(), @@socket")?;
            let [name, socket] = &row[..] else { return Err(no_place()) };
            let protocol = if database == Database::MariaDb { "MariaDB" } else { "MySQL" };
            (protocol, format!("dbi:MariaDB:dbname={name};mariadb_socket={socket}"))
        }
    };
    if route.is_empty() {
        return Err(no_place());
    }
    Ok((protocol, Route::new(&route)?))
}

fn no_place() -> Error {
    Error::new(ErrorKind::Unsupported, "the database of that connection is nowhere where others could find it")
}
