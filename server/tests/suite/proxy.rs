//! A wire between an engine and its database that can be cut, by the message.
//!
//! It reads along, in PostgreSQL's protocol, as far as it takes to know the connection that commits and the call that does.
//! So it can keep a call from arriving, or let it be carried out and swallow the answer: the two ends of every doubt about
//! a commit. A frozen wire says nothing at all, not even goodbye.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What becomes of a commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The call never arrives, and the connection is cut.
    CutBefore,
    /// It is carried out; the answer is swallowed, and the connection cut.
    CutAfter,
    /// The call never arrives, and nothing is heard any more.
    FreezeBefore,
    /// It is carried out, and nothing is heard any more.
    FreezeAfter,
}

impl Fault {
    fn is_before(self) -> bool {
        matches!(self, Fault::CutBefore | Fault::FreezeBefore)
    }

    fn is_cut(self) -> bool {
        matches!(self, Fault::CutBefore | Fault::CutAfter)
    }
}

/// The words by which a client asks whether the server speaks TLS; then it says its first words again.
const ASKS_FOR_TLS: [u8; 4] = 80_877_103_u32.to_be_bytes();

/// Decides what becomes of the n-th commit.
type Plan = Box<dyn FnMut(u64) -> Option<Fault> + Send>;

struct Shared {
    plan: Mutex<Plan>,
    commits: AtomicU64,
    faults: AtomicU64,
    /// Nothing passes while this is set, on any connection, old or new.
    frozen: watch::Sender<bool>,
}

/// The wire. It ends with this.
pub struct Proxy {
    /// Where the engine finds it.
    pub port: u16,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// A wire to the database on this port of this machine, on which nothing goes wrong yet.
    pub async fn to(database: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared {
            plan: Mutex::new(Box::new(|_| None)),
            commits: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            frozen: watch::Sender::new(false),
        });
        let task = tokio::spawn(accept(listener, database, Arc::clone(&shared)));
        Proxy { port, shared, task }
    }

    /// From now on this decides what becomes of each commit.
    pub fn plan(&self, plan: impl FnMut(u64) -> Option<Fault> + Send + 'static) {
        *self.shared.plan.lock() = Box::new(plan);
    }

    /// The next commit has this fault, and no other.
    pub fn next(&self, fault: Fault) {
        let mut once = Some(fault);
        self.plan(move |_| once.take());
    }

    /// Commits that were called so far.
    pub fn commits(&self) -> u64 {
        self.shared.commits.load(Ordering::SeqCst)
    }

    /// Faults so far.
    pub fn faults(&self) -> u64 {
        self.shared.faults.load(Ordering::SeqCst)
    }

    /// Holds everything back, on every connection, or lets it pass again.
    pub fn freeze(&self, frozen: bool) {
        self.shared.frozen.send_replace(frozen);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, database: u16, shared: Arc<Shared>) {
    loop {
        let Ok((client, _)) = listener.accept().await else { return };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            pass(&shared).await;
            // A database that is away refuses; so does the wire to it, by ending.
            if let Ok(server) = TcpStream::connect(("127.0.0.1", database)).await {
                Connection::new(client, server, shared).carry().await;
            }
        });
    }
}

/// Waits until the wire is not frozen.
async fn pass(shared: &Shared) {
    let mut frozen = shared.frozen.subscribe();
    // The sender lives as long as `shared`.
    frozen.wait_for(|frozen| !frozen).await.expect("somebody can thaw it");
}

/// One connection through the wire.
struct Connection {
    from_client: OwnedReadHalf,
    to_client: OwnedWriteHalf,
    from_server: OwnedReadHalf,
    to_server: OwnedWriteHalf,
    shared: Arc<Shared>,
}

/// Which ending a connection has come to.
enum End {
    /// One side has gone.
    Gone,
    /// It is to be cut or frozen.
    Fault(Fault),
}

impl Connection {
    fn new(client: TcpStream, server: TcpStream, shared: Arc<Shared>) -> Connection {
        for stream in [&client, &server] {
            // Without it small messages wait for company, and the proxy would be the slowest part.
            stream.set_nodelay(true).expect("a socket");
        }
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        Connection { from_client, to_client, from_server, to_server, shared }
    }

    async fn carry(self) {
        let Connection { from_client, mut to_client, mut from_server, to_server, shared } = self;
        let back = async {
            let mut buffer = vec![0; 64 * 1024];
            loop {
                let Ok(read @ 1..) = from_server.read(&mut buffer).await else { return End::Gone };
                pass(&shared).await;
                if to_client.write_all(&buffer[..read]).await.is_err() {
                    return End::Gone;
                }
            }
        };
        let mut forth = Forth { from_client, to_server, shared: Arc::clone(&shared), commits: false };
        let fault = {
            let forwards = std::pin::pin!(forth.run());
            let end = tokio::select! { end = forwards => end, end = back => end };
            match end {
                End::Gone => return,
                End::Fault(fault) => fault,
            }
        };
        shared.faults.fetch_add(1, Ordering::SeqCst);
        if !fault.is_before() {
            until_ready(&mut from_server).await;
        }
        if !fault.is_cut() {
            // Both ends stay open, and neither hears of the other, until the client gives up.
            let mut ignored = vec![0; 1024];
            while let Ok(1..) = forth.from_client.read(&mut ignored).await {}
        }
    }
}

/// From the client to the server, message by message.
struct Forth {
    from_client: OwnedReadHalf,
    to_server: OwnedWriteHalf,
    shared: Arc<Shared>,
    /// This is the connection that commits.
    commits: bool,
}

impl Forth {
    async fn run(&mut self) -> End {
        self.try_to().await.unwrap_or(End::Gone)
    }

    /// First words have no kind, only a length; all others are a kind and a length.
    async fn try_to(&mut self) -> std::io::Result<End> {
        loop {
            let words = self.message(None).await?;
            pass(&self.shared).await;
            self.to_server.write_all(&words).await?;
            if !words.ends_with(&ASKS_FOR_TLS) {
                break;
            }
        }
        loop {
            let kind = self.from_client.read_u8().await?;
            let message = self.message(Some(kind)).await?;
            pass(&self.shared).await;
            if kind == b'P' && contains(&message, b"commit_turns(") {
                self.commits = true;
            }
            // Bind: a prepared call gets its values, and is carried out by what follows in the same breath.
            let fault = if self.commits && kind == b'B' { self.fault() } else { None };
            if let Some(fault) = fault.filter(|fault| fault.is_before()) {
                return Ok(End::Fault(fault));
            }
            self.to_server.write_all(&message).await?;
            if let Some(fault) = fault {
                self.until_sync().await?;
                return Ok(End::Fault(fault));
            }
        }
    }

    fn fault(&self) -> Option<Fault> {
        let nth = self.shared.commits.fetch_add(1, Ordering::SeqCst);
        (self.shared.plan.lock())(nth)
    }

    /// Passes the rest of a call on.
    async fn until_sync(&mut self) -> std::io::Result<()> {
        loop {
            let kind = self.from_client.read_u8().await?;
            let message = self.message(Some(kind)).await?;
            self.to_server.write_all(&message).await?;
            if kind == b'S' {
                return Ok(());
            }
        }
    }

    /// A whole message, its kind included.
    async fn message(&mut self, kind: Option<u8>) -> std::io::Result<Vec<u8>> {
        let length = self.from_client.read_u32().await?;
        let mut message: Vec<u8> = kind.into_iter().chain(length.to_be_bytes()).collect();
        let head = message.len();
        let body = usize::try_from(length).expect("fits").saturating_sub(4);
        message.resize(head + body, 0);
        self.from_client.read_exact(&mut message[head..]).await?;
        Ok(message)
    }
}

/// Reads and drops what the server says until it has finished what it was asked.
async fn until_ready(from_server: &mut OwnedReadHalf) {
    let whole = async {
        loop {
            let kind = from_server.read_u8().await?;
            let length = from_server.read_u32().await?;
            let mut body = vec![0; usize::try_from(length).expect("fits").saturating_sub(4)];
            from_server.read_exact(&mut body).await?;
            if kind == b'Z' {
                return Ok::<_, std::io::Error>(());
            }
        }
    };
    // A server that has died in the middle has said all that it can.
    let _ = tokio::time::timeout(Duration::from_secs(10), whole).await;
}

fn contains(text: &[u8], words: &[u8]) -> bool {
    text.windows(words.len()).any(|window| window == words)
}
