// SPDX-License-Identifier: MIT OR Apache-2.0
//! The socket to a server, and the greeting on it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::config::SslMode;
#[cfg(feature = "tls")]
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, NoTls};

use super::session::{Session, failure};
use crate::protocol::sql::address::{Address, Host};
#[cfg(feature = "tls")]
use crate::protocol::sql::encryption::Mode;
use crate::protocol::sql::value::{Failure, Trouble};

/// The port where servers are, and where their sockets are on Debian and elsewhere.
pub(super) const PORT: u16 = 5432;
const SOCKET_DIRECTORIES: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// A socket of either kind.
#[derive(Debug)]
pub(super) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// Connects; also gives another descriptor of the socket.
pub(super) async fn connect(address: &Address) -> Result<(Stream, OwnedFd), Failure> {
    let port = address.port.unwrap_or(PORT);
    let connected = match &address.host {
        Host::Socket(directory) => unix(directory, port).await,
        Host::Default => {
            let there = SOCKET_DIRECTORIES.iter().find(|dir| Path::new(dir).join(file(port)).exists());
            unix(Path::new(there.unwrap_or(&SOCKET_DIRECTORIES[0])), port).await
        }
        Host::Name(name) => TcpStream::connect((name.as_str(), port)).await.and_then(|stream| {
            stream.set_nodelay(true)?;
            let other = stream.as_fd().try_clone_to_owned()?;
            Ok((Stream::Tcp(stream), other))
        }),
    };
    connected.map_err(|error| match (error.kind(), &address.host) {
        // Who removes a private server removes its socket.
        (io::ErrorKind::NotFound, Host::Socket(_)) => Failure::new(Trouble::Unreachable, error),
        (io::ErrorKind::PermissionDenied, _) => Failure::new(Trouble::Denied, error),
        _ => Failure::new(Trouble::Unreachable, error),
    })
}

fn file(port: u16) -> String {
    format!(".s.PGSQL.{port}")
}

async fn unix(directory: &Path, port: u16) -> io::Result<(Stream, OwnedFd)> {
    let stream = UnixStream::connect(directory.join(file(port))).await?;
    let other = stream.as_fd().try_clone_to_owned()?;
    Ok((Stream::Unix(stream), other))
}

/// Greets the server and shows it who we are. What goes over a Unix socket stays on the machine, so nothing about
/// encryption applies to it; PostgreSQL manual, `sslmode`.
pub(super) async fn greet(
    address: &Address,
    config: &Config,
    stream: Stream,
) -> Result<(Client, super::SessionPump), Failure> {
    let mut config = config.clone();
    #[cfg(feature = "tls")]
    {
        let mode = address.encryption.mode().unwrap_or(Mode::Prefer);
        if let (Stream::Tcp(_), Host::Name(host), true) = (&stream, &address.host, mode != Mode::Disable) {
            config.ssl_mode(if mode.is_must() { SslMode::Require } else { SslMode::Prefer });
            let client_config = super::tls::client_config(&address.encryption, mode)?;
            let mut make = tokio_postgres_rustls::MakeRustlsConnect::new(client_config);
            let tls = <_ as MakeTlsConnect<Stream>>::make_tls_connect(&mut make, host);
            let tls = tls.map_err(|error| Failure::new(Trouble::Untrusted, error))?;
            let (client, connection) = config.connect_raw(stream, tls).await.map_err(failure)?;
            return Ok((client, Session::pump(connection)));
        }
    }
    let _ = address;
    config.ssl_mode(SslMode::Disable);
    let (client, connection) = config.connect_raw(stream, NoTls).await.map_err(failure)?;
    Ok((client, Session::pump(connection)))
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_read(context, buf),
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_write(context, buf),
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_flush(context),
            Self::Tcp(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
