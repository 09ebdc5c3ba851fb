//! A wire that can be cut: a TCP forwarder in front of a server, for what happens when the connection to it is lost.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The forwarder. Dropping it cuts everything.
#[derive(Debug)]
pub struct Wire {
    address: SocketAddr,
    /// Odd while the wire is cut; every change ends the connections there are.
    cuts: Arc<watch::Sender<u64>>,
    listening: JoinHandle<()>,
}

impl Wire {
    /// Listens on a port of 127.0.0.1 and forwards to `to`.
    ///
    /// # Errors
    /// The port cannot be listened on.
    pub async fn to(to: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let cuts = Arc::new(watch::Sender::new(0));
        let of_connections = Arc::clone(&cuts);
        let listening = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let mut cut = of_connections.subscribe();
                let is_cut = *cut.borrow_and_update() % 2 == 1;
                if is_cut {
                    continue;
                }
                tokio::spawn(async move {
                    tokio::select! {
                        () = forward(client, to) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Ok(Self { address, cuts, listening })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts every connection; new ones are dropped until [`Self::mend`].
    pub fn cut(&self) {
        self.cuts.send_if_modified(|count| {
            let was_whole = count.is_multiple_of(2);
            *count += u64::from(was_whole);
            was_whole
        });
    }

    /// Lets connections through again.
    pub fn mend(&self) {
        self.cuts.send_if_modified(|count| {
            let was_cut = !count.is_multiple_of(2);
            *count += u64::from(was_cut);
            was_cut
        });
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.listening.abort();
        self.cut();
    }
}

async fn forward(mut client: TcpStream, to: SocketAddr) {
    if let Ok(mut server) = TcpStream::connect(to).await {
        // Either side may end it at any time.
        let _ended = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_cut_wire_ends_connections_and_takes_no_new_ones() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let wire = Wire::to(server.local_addr().unwrap()).await.unwrap();
        let echo = tokio::spawn(async move {
            while let Ok((mut stream, _)) = server.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    let _ended = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        let mut through = TcpStream::connect(wire.address()).await.unwrap();
        let mut byte = [0; 1];
        through.write_all(b"a").await.unwrap();
        through.read_exact(&mut byte).await.unwrap();
        wire.cut();
        assert_eq!(through.read(&mut byte).await.unwrap_or(0), 0);
        let mut refused = TcpStream::connect(wire.address()).await.unwrap();
        assert_eq!(refused.read(&mut byte).await.unwrap_or(0), 0);
        wire.mend();
        let mut again = TcpStream::connect(wire.address()).await.unwrap();
        again.write_all(b"b").await.unwrap();
        again.read_exact(&mut byte).await.unwrap();
        assert_eq!(&byte, b"b");
        echo.abort();
    }
}
