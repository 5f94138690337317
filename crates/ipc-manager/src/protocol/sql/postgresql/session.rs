// SPDX-License-Identifier: MIT OR Apache-2.0
//! One session with a server: a socket of our own, so that it can be waited for, driven by a runtime that runs only
//! while a statement does.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Runtime;
use tokio_postgres::{AsyncMessage, Client, Config, Statement};

use super::stream;
use crate::protocol::sql::address::Address;
use crate::protocol::sql::value::{Failure, Trouble};
use crate::system::poll::{self, Woken};

/// How long a server may take to let a client in, and to answer a statement.
const CONNECTING: Duration = Duration::from_secs(10);
const ANSWERING: Duration = Duration::from_secs(60);
/// Most statements that are kept prepared.
const STATEMENTS: usize = 64;

/// What moves the session's messages, until the server ends it.
pub(super) type Pump =
    Box<dyn FnMut(&mut Context<'_>) -> Poll<Option<Result<AsyncMessage, tokio_postgres::Error>>> + Send>;

/// See the module.
pub(super) struct Session {
    runtime: Runtime,
    client: Client,
    pump: Pump,
    /// Another descriptor of the socket, to wait for.
    socket: OwnedFd,
    prepared: HashMap<String, Statement>,
    has_notice: bool,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Session")
    }
}

impl Session {
    pub(super) fn open(address: &Address, config: &Config) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::new(Trouble::Other, error))?;
        let connected = runtime.block_on(async {
            let connecting = async {
                let (stream, socket) = stream::connect(address).await?;
                let (client, pump) = stream::greet(address, config, stream).await?;
                Ok((client, pump, socket))
            };
            match tokio::time::timeout(CONNECTING, connecting).await {
                Ok(connected) => connected,
                Err(_) => Err(Failure::new(Trouble::Unreachable, "the server did not let us in in time")),
            }
        });
        let (client, pump, socket) = connected?;
        Ok(Self { runtime, client, pump, socket, prepared: HashMap::new(), has_notice: false })
    }

    /// What a session over this stream moves its messages with.
    pub(super) fn pump<S, T>(mut connection: tokio_postgres::Connection<S, T>) -> Pump
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        Box::new(move |context| connection.poll_message(context))
    }

    /// Runs work on the session until it is done, within a time.
    pub(super) fn run<T>(
        &mut self,
        work: impl AsyncFnOnce(&Client) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, Failure> {
        let Self { runtime, client, pump, has_notice, .. } = self;
        let done = runtime.block_on(async {
            let mut work = pin!(work(client));
            let driven = poll_fn(|context| drive(work.as_mut(), pump, has_notice, context));
            tokio::time::timeout(ANSWERING, driven).await
        });
        match done {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(failure)) => Err(failure),
            Err(_) => Err(Failure::new(Trouble::Lost, "the server did not answer in time")),
        }
    }

    /// The statement in the form that the server has prepared.
    pub(super) fn prepare(&mut self, sql: &str) -> Result<Statement, Failure> {
        if let Some(statement) = self.prepared.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.run(async |client| client.prepare(sql).await)?;
        if self.prepared.len() >= STATEMENTS {
            self.prepared.clear();
        }
        self.prepared.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    /// Reads what the server said meanwhile. Returns whether it told of something; a failure is the session's end.
    pub(super) fn take_notice(&mut self) -> Result<bool, Failure> {
        let Self { runtime, pump, has_notice, socket, .. } = self;
        while poll::readable(&[socket.as_fd()], Duration::ZERO).is_ok_and(|woken| woken == Woken::Ready) {
            let ended = runtime.block_on(async {
                // The runtime looks at the socket when everything yields to it.
                for _ in 0..2 {
                    if poll_fn(|context| Poll::Ready(pump_all(pump, has_notice, context))).await.is_ready() {
                        return true;
                    }
                    tokio::task::yield_now().await;
                }
                poll_fn(|context| Poll::Ready(pump_all(pump, has_notice, context))).await.is_ready()
            });
            if ended {
                return Err(Failure::new(Trouble::Lost, "the server ended the session"));
            }
        }
        Ok(std::mem::take(has_notice))
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Moves the session's messages; ready when it has ended.
fn pump_all(pump: &mut Pump, has_notice: &mut bool, context: &mut Context<'_>) -> Poll<()> {
    loop {
        match pump(context) {
            Poll::Ready(Some(Ok(AsyncMessage::Notification(_)))) => *has_notice = true,
            Poll::Ready(Some(Ok(_))) => {}
            Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(()),
            Poll::Pending => return Poll::Pending,
        }
    }
}

fn drive<T>(
    mut work: Pin<&mut impl Future<Output = Result<T, tokio_postgres::Error>>>,
    pump: &mut Pump,
    has_notice: &mut bool,
    context: &mut Context<'_>,
) -> Poll<Result<T, Failure>> {
    if let Poll::Ready(done) = work.as_mut().poll(context) {
        return Poll::Ready(done.map_err(failure));
    }
    match pump_all(pump, has_notice, context) {
        Poll::Pending => Poll::Pending,
        // What came before the end counts.
        Poll::Ready(()) => match work.poll(context) {
            Poll::Ready(done) => Poll::Ready(done.map_err(failure)),
            Poll::Pending => Poll::Ready(Err(Failure::new(Trouble::Lost, "the server ended the session"))),
        },
    }
}

/// What an error of the server or of the session means; PostgreSQL manual, appendix A.
pub(super) fn failure(error: tokio_postgres::Error) -> Failure {
    let trouble = match error.code().map(tokio_postgres::error::SqlState::code) {
        None if error.is_closed() => Trouble::Lost,
        None => match std::error::Error::source(&error).and_then(|source| source.downcast_ref::<std::io::Error>()) {
            #[cfg(feature = "tls")]
            Some(source) if crate::protocol::sql::tls::is_untrusted(source) => Trouble::Untrusted,
            Some(_) => Trouble::Lost,
            // What goes wrong within the encryption is an error of the stream; this is its lack.
            None if error.to_string().contains("TLS handshake") => Trouble::Unable,
            None => Trouble::Other,
        },
        Some("40001" | "40P01" | "23503") => Trouble::Conflict,
        Some("55P03" | "57014") => Trouble::Busy,
        Some("23505" | "42710" | "42P07" | "42701") => Trouble::Duplicate,
        Some("42P01" | "3D000") => Trouble::Missing,
        Some("57P03" | "53300") => Trouble::Unreachable,
        Some("42501") => Trouble::Denied,
        Some(code) => match code.get(..2) {
            Some("28") => Trouble::Denied,
            Some("08" | "57") => Trouble::Lost,
            _ => Trouble::Other,
        },
    };
    Failure::new(trouble, error)
}
