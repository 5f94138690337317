// SPDX-License-Identifier: MIT OR Apache-2.0
//! An open database with a bus in it: transactions, errors with their place, counters, who holds a name.

use std::sync::Arc;

use super::dialect::{Dialect, Driver};
use super::message_row::Tables;
use super::schema::{self, Schema};
use super::statements::Statements;
use super::value::{Failure, Param, Row, Trouble};
use crate::error::{Error, ErrorKind, Result};
use crate::json;
use crate::limits::Limits;
use crate::protocol::beside::{Beside, Holder, Standing, time};
use crate::route::Route;
use crate::serializer::Serializer;
use crate::stats::Stats;
use crate::system::doorbell::Porch;

/// How often a transaction is tried that the database gave up in favour of another.
const MOST_TRIES: usize = 20;

/// See the module.
#[derive(Debug)]
pub(in crate::protocol) struct Store {
    pub(super) driver: Box<dyn Driver>,
    pub(super) dialect: &'static dyn Dialect,
    pub(super) texts: Statements,
    pub(super) schema: Schema,
    pub(super) route: Route,
    pub(super) beside: Option<Beside>,
    pub(super) serializer: Arc<dyn Serializer>,
    /// What the last failed transaction failed of.
    last_trouble: Option<Trouble>,
}

/// What a transaction has come to: done, or refused and nothing changed.
pub(super) type Outcome<T> = std::result::Result<Result<T>, Failure>;

/// A peer's row.
#[derive(Debug, Clone)]
pub(super) struct PeerRow {
    pub(super) id: String,
    pub(super) standing: Standing,
    pub(super) stats: Option<Vec<u8>>,
}

impl Store {
    /// Takes an open database; there must be a bus in it. `may_change`: whether tables that lack something of ours get
    /// it.
    pub(in crate::protocol) fn new(
        mut driver: Box<dyn Driver>,
        dialect: &'static dyn Dialect,
        route: &Route,
        beside: Option<Beside>,
        serializer: Arc<dyn Serializer>,
        may_change: bool,
    ) -> Result<Self> {
        let found = match may_change {
            true => schema::bring_up_to_date(&mut *driver, dialect),
            false => Schema::find(&mut *driver, dialect),
        };
        let place = |error: Error| error.in_protocol(dialect.protocol()).on_route(route.as_str());
        let schema = found.map_err(|failure| place(error_of(failure, "the tables of the bus cannot be read")))?;
        if !schema.is_bus {
            let detail = "the database has no tables of a bus";
            return Err(place(Error::new(ErrorKind::NoSuchBus, detail)));
        }
        let texts = Statements::new(dialect, &schema);
        Ok(Self { driver, dialect, texts, schema, route: route.clone(), beside, serializer, last_trouble: None })
    }

    /// What messages are stored in.
    pub(super) fn tables(&self) -> Tables<'_> {
        Tables { dialect: self.dialect, schema: &self.schema, serializer: &*self.serializer }
    }

    pub(super) fn porch(&self) -> Option<&Porch> {
        self.beside.as_ref().map(|beside| &**beside.porch())
    }

    /// Adds to an error that it happened in this store.
    pub(super) fn place(&self, error: Error) -> Error {
        error.in_protocol(self.dialect.protocol()).on_route(self.route.as_str())
    }

    pub(super) fn failed(&self, detail: &str, mut failure: Failure) -> Error {
        #[cfg(any(feature = "postgresql", feature = "mysql"))]
        if failure.trouble == Trouble::Unreachable && super::private::is_removed(&self.route) {
            failure.trouble = Trouble::Missing;
        }
        self.place(error_of(failure, detail))
    }

    /// Runs a statement that gives rows.
    pub(super) fn query(
        &mut self,
        detail: &str,
        sql: impl FnOnce(&Statements) -> &str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>> {
        let rows = self.driver.check().and_then(|()| self.driver.query(sql(&self.texts), params));
        rows.map_err(|failure| self.failed(detail, failure))
    }

    /// Runs a statement; returns how many rows it changed.
    pub(super) fn execute(
        &mut self,
        detail: &str,
        sql: impl FnOnce(&Statements) -> &str,
        params: &[Param<'_>],
    ) -> Result<u64> {
        let changed = self.driver.check().and_then(|()| self.driver.execute(sql(&self.texts), params));
        changed.map_err(|failure| self.failed(detail, failure))
    }

    /// Runs a transaction, again where the database gave it up in favour of another. It is kept if the work is done,
    /// and undone if the work refuses or fails.
    pub(super) fn transaction<T>(
        &mut self,
        detail: &str,
        mut work: impl FnMut(&mut Tx<'_>) -> Outcome<T>,
    ) -> Result<T> {
        let mut tries = 0;
        self.last_trouble = None;
        loop {
            tries += 1;
            match self.attempt(&mut work) {
                Err(failure) if failure.trouble == Trouble::Conflict && tries < MOST_TRIES => {}
                Err(failure) => {
                    self.last_trouble = Some(failure.trouble);
                    return Err(self.failed(detail, failure));
                }
                Ok(outcome) => return outcome,
            }
        }
    }

    fn attempt<T>(&mut self, work: &mut impl FnMut(&mut Tx<'_>) -> Outcome<T>) -> Outcome<T> {
        self.driver.check()?;
        self.driver.begin()?;
        let porch = self.beside.as_ref().map(|beside| &**beside.porch());
        let mut tx =
            Tx { dialect: self.dialect, driver: &mut *self.driver, texts: &self.texts, schema: &self.schema, porch };
        match work(&mut tx) {
            Ok(Ok(done)) => {
                self.driver.commit().inspect_err(|_| self.driver.rollback())?;
                Ok(Ok(done))
            }
            outcome => {
                self.driver.rollback();
                outcome
            }
        }
    }

    /// Whether the last transaction that failed may have been kept.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.last_trouble == Some(Trouble::InDoubt)
    }

    /// A peer's row, if there is one of exactly this name.
    pub(super) fn peer_row(&mut self, name: &str) -> Result<Option<PeerRow>> {
        let rows = self.query("a peer's row cannot be read", |texts| &texts.peer, &[Param::Text(name)])?;
        Ok(rows.into_iter().filter_map(PeerRow::of).find(|row| row.id == name))
    }

    pub(super) fn encode_stats(&self, stats: &Stats) -> Result<Vec<u8>> {
        let (mut text, mut payload) = (String::new(), Vec::new());
        json::to_wire(stats, &Limits::DEFAULT, &mut text)?;
        self.serializer.encode(&text, &mut payload)?;
        if self.schema.largest.is_some_and(|largest| payload.len() as u64 > largest) {
            let detail = format!("the counters have {} bytes, and their column takes fewer", payload.len());
            return Err(self.place(Error::new(ErrorKind::TooLarge, detail)));
        }
        Ok(payload)
    }

    /// Counters as they stand in a row. Damaged ones count as none: the name must be usable all the same.
    pub(super) fn decode_stats(&self, payload: &[u8]) -> Option<Stats> {
        let text = self.serializer.decode(payload, Limits::DEFAULT.decoded_bytes).ok()?;
        let text = json::normalise(&text, &Limits::DEFAULT).ok()?;
        Stats::from_value(&json::parse_value(&text).ok()?).ok()
    }
}

/// What works on the database within a transaction.
pub(super) struct Tx<'a> {
    pub(super) dialect: &'static dyn Dialect,
    pub(super) driver: &'a mut dyn Driver,
    pub(super) texts: &'a Statements,
    pub(super) schema: &'a Schema,
    pub(super) porch: Option<&'a Porch>,
}

impl Tx<'_> {
    /// A peer's row, locked against others. One whose name the database takes for the same is given, too.
    pub(super) fn peer_row(&mut self, name: &str) -> std::result::Result<Option<PeerRow>, Failure> {
        let rows = self.driver.query(&self.texts.peer_locked, &[Param::Text(name)])?;
        Ok(rows.into_iter().find_map(PeerRow::of))
    }

    /// Removes the messages of a mailbox that were handed out too often; returns how many.
    pub(super) fn discard_dead(&mut self, name: &str) -> std::result::Result<u64, Failure> {
        if !self.schema.dead {
            return Ok(0);
        }
        self.driver.execute(&self.texts.discard_dead, &[Param::Text(name)])
    }

    /// The parameters that a statement has for a holder: none where there is no column for it.
    pub(super) fn holder<'p>(&self, holder: Option<&'p str>) -> Option<Param<'p>> {
        self.schema.holder.then_some(Param::text_or_null(holder))
    }
}

impl PeerRow {
    fn of(mut row: Row) -> Option<Self> {
        let id = row.next().into_text()?;
        let (pid, active, until) = (row.next().as_integer(), row.next(), row.next().as_number());
        let (holder_text, stats) = (row.next().into_text(), row.next().into_bytes());
        let standing = Standing {
            is_active: !active.is_null(),
            pid: pid.and_then(|pid| u32::try_from(pid).ok()),
            since: active.as_number().and_then(time),
            until: until.and_then(time),
            holder: holder_text.as_deref().and_then(Holder::parse),
        };
        Some(Self { id, standing, stats })
    }

    /// Of a row without counters.
    pub(super) fn listed(row: Row) -> Option<Self> {
        Self::of(row)
    }
}

/// What a failure is to the caller.
pub(super) fn error_of(failure: Failure, detail: &str) -> Error {
    let Failure { trouble, source } = failure;
    let error = match trouble {
        Trouble::Busy | Trouble::Conflict => {
            let detail = format!("{detail}: others have kept the database locked for too long");
            Error::new(ErrorKind::Timeout, detail)
        }
        Trouble::Missing => Error::new(ErrorKind::NoSuchBus, "there is no bus in the database, or it was removed"),
        Trouble::Lost => Error::new(ErrorKind::Store, format!("{detail}: the connection was lost")).with_store_away(),
        Trouble::InDoubt => {
            Error::new(ErrorKind::Store, format!("{detail} for sure: the connection was lost")).with_store_away()
        }
        Trouble::Unreachable => {
            Error::new(ErrorKind::Store, format!("{detail}: the server cannot be reached")).with_store_away()
        }
        Trouble::Denied => Error::new(ErrorKind::Permission, detail),
        #[cfg(feature = "tls")]
        Trouble::Untrusted => Error::new(
            ErrorKind::Permission,
            format!("{detail}: its certificate does not show that it is the right one"),
        ),
        Trouble::Unable => Error::new(
            ErrorKind::Unsupported,
            format!("{detail}: it does not offer encryption, which the route asks for"),
        ),
        Trouble::Corrupt => Error::new(ErrorKind::Corrupt, detail),
        Trouble::Duplicate | Trouble::Other => Error::new(ErrorKind::Store, detail),
    };
    error.with_source(source)
}
