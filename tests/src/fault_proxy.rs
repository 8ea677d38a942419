//! A TCP proxy that can be told to fail, to stand before any service.
//!
//! ```text
//!  client -> 127.0.0.1:PORT -> [ Pass | Delay | Hold | Cut ] -> target
//! ```
//! Its port is known before the target's: a service that tells clients its own address (a broker's `advertised.listeners`)
//! is started with the proxy's.

use anyhow::{Context, Result};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A condition that does not hold by then never will.
const PATIENCE: Duration = Duration::from_secs(60);

/// What becomes of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// They pass.
    Pass,
    /// They pass, each piece of up to 16 KiB so much later than the one before it.
    Delay(Duration),
    /// They wait, in both directions, until another mode; connections stay open and new ones are taken.
    Hold,
    /// Open connections are closed, and new ones as soon as they are taken.
    Cut,
}

/// A proxy; it ends with this value.
pub struct FaultProxy {
    port: u16,
    target: Arc<Mutex<Option<String>>>,
    fault: watch::Sender<Fault>,
    touched: Arc<AtomicU64>,
    accepting: tokio::task::JoinHandle<()>,
}

impl FaultProxy {
    /// A proxy without a target yet: connections are closed until [`Self::set_target`].
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start() -> Result<FaultProxy> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let target = Arc::new(Mutex::new(None));
        let (fault, watched) = watch::channel(Fault::Pass);
        let touched = Arc::default();
        let proxied = Proxied {
            fault: watched,
            touched: Arc::clone(&touched),
        };
        let accepting = tokio::spawn(accept(listener, Arc::clone(&target), proxied));
        Ok(FaultProxy {
            port,
            target,
            fault,
            touched,
            accepting,
        })
    }

    /// A proxy before `host:port`.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn before(target: &str) -> Result<FaultProxy> {
        let proxy = Self::start().await?;
        proxy.set_target(target);
        Ok(proxy)
    }

    /// Where connections lead from now on: `host:port`.
    pub fn set_target(&self, target: &str) {
        *self.target.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(target.to_owned());
    }

    /// What becomes of bytes from now on.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// How often a fault has been felt so far: pieces that were held or delayed, connections that were cut or refused.
    pub fn touched(&self) -> u64 {
        self.touched.load(Ordering::Acquire)
    }

    /// Waits until a fault has been felt so often.
    ///
    /// # Errors
    /// When it is not.
    pub async fn until_touched(&self, times: u64) -> Result<()> {
        let felt = async {
            while self.touched() < times {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, felt)
            .await
            .context("the fault is felt by nobody")
    }

    /// The proxy's port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.accepting.abort();
        // Connections watch this, and end with it.
        self.fault.send_replace(Fault::Cut);
    }
}

/// What connections see of the proxy.
#[derive(Clone)]
struct Proxied {
    fault: watch::Receiver<Fault>,
    touched: Arc<AtomicU64>,
}

impl Proxied {
    fn touch(&self) {
        self.touched.fetch_add(1, Ordering::AcqRel);
    }
}

async fn accept(listener: TcpListener, target: Arc<Mutex<Option<String>>>, proxied: Proxied) {
    while let Ok((client, _)) = listener.accept().await {
        let target = target.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let now = *proxied.fault.borrow();
        match target {
            Some(target) if now != Fault::Cut => drop(tokio::spawn(connect(client, target, proxied.clone()))),
            _ => proxied.touch(),
        }
    }
}

async fn connect(client: TcpStream, target: String, proxied: Proxied) {
    let Ok(service) = TcpStream::connect(target).await else {
        return;
    };
    // A connection without it is slower, not wrong.
    let _ = (client.set_nodelay(true), service.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_service, to_service) = service.into_split();
    let mut cut = proxied.fault.clone();
    // Whichever ends first closes both sides.
    tokio::select! {
        () = forward(from_client, to_service, proxied.clone()) => {}
        () = forward(from_service, to_client, proxied.clone()) => {}
        _ = cut.wait_for(|fault| *fault == Fault::Cut) => proxied.touch(),
    }
}

async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut proxied: Proxied) {
    let mut piece = vec![0; 16 << 10];
    loop {
        let length = match from.read(&mut piece).await {
            Ok(0) | Err(_) => return,
            Ok(length) => length,
        };
        if *proxied.fault.borrow() == Fault::Hold {
            proxied.touch();
        }
        let Ok(now) = proxied
            .fault
            .wait_for(|fault| *fault != Fault::Hold)
            .await
            .map(|fault| *fault)
        else {
            return;
        };
        if let Fault::Delay(delay) = now {
            proxied.touch();
            tokio::time::sleep(delay).await;
        }
        let Some(bytes) = piece.get(..length) else { return };
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A service that answers every byte with itself.
    async fn echo() -> Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = connection.into_split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        Ok(address)
    }

    #[tokio::test]
    async fn bytes_pass_wait_or_find_the_connection_closed() -> Result<()> {
        let proxy = FaultProxy::before(&echo().await?).await?;
        let mut connection = TcpStream::connect(proxy.address()).await?;
        let mut byte = [0];
        connection.write_all(b"a").await?;
        connection.read_exact(&mut byte).await?;
        assert_eq!(&byte, b"a");

        proxy.set(Fault::Hold);
        connection.write_all(b"b").await?;
        let held = tokio::time::timeout(Duration::from_millis(50), connection.read_exact(&mut byte)).await;
        assert!(held.is_err(), "a byte passed: {byte:?}");
        assert_eq!(proxy.touched(), 1);
        proxy.set(Fault::Delay(Duration::from_millis(1)));
        connection.read_exact(&mut byte).await?;
        assert_eq!(&byte, b"b");

        let before = proxy.touched();
        proxy.set(Fault::Cut);
        assert_eq!(connection.read(&mut byte).await.unwrap_or(0), 0);
        assert!(proxy.touched() > before);
        let mut refused = TcpStream::connect(proxy.address()).await?;
        assert_eq!(refused.read(&mut byte).await.unwrap_or(0), 0);
        proxy.set(Fault::Pass);
        let mut connection = TcpStream::connect(proxy.address()).await?;
        connection.write_all(b"c").await?;
        connection.read_exact(&mut byte).await?;
        assert_eq!(&byte, b"c");
        Ok(())
    }
}
