// SPDX-License-Identifier: MIT OR Apache-2.0
//! A server that restarts in the middle of traffic, in order and as a crash: senders, readers and services carry on by
//! themselves, and each message arrives once. Calls that never wait say that the store is away.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ipc_manager::{Client, Credentials, Error, Message, Registry, Service, Spawn, Stored};
use ipc_manager_servers::{Options, PrivateServer};
use ipc_manager_testkit::servers::{Engine, can_start};
use ipc_manager_testkit::{PATIENCE, Test};

/// Messages of each sender. The server is restarted at each quarter of all.
const COUNT: u64 = 240;
/// Messages that one of them sends at once.
const TOGETHER: u64 = 20;
/// Long enough to be sure that a call waited, short enough to be no burden.
const MOMENT: Duration = Duration::from_millis(50);

pub fn tests() -> Vec<Test> {
    let postgresql: fn() -> Result<(), String> = || can_start(Engine::PostgreSQL);
    let mariadb: fn() -> Result<(), String> = || can_start(Engine::MariaDb);
    let mysql: fn() -> Result<(), String> = || can_start(Engine::MySql);
    vec![
        Test::new("restarts::t21_postgresql", |_| under_load(Engine::PostgreSQL)).only_if(postgresql),
        Test::new("restarts::t21_mariadb", |_| under_load(Engine::MariaDb)).only_if(mariadb),
        Test::new("restarts::t21_mysql", |_| under_load(Engine::MySql)).only_if(mysql),
        Test::new("restarts::who_does_not_wait_is_told_postgresql", |_| who_does_not_wait(Engine::PostgreSQL))
            .only_if(postgresql),
        Test::new("restarts::who_does_not_wait_is_told_mariadb", |_| who_does_not_wait(Engine::MariaDb))
            .only_if(mariadb),
        Test::new("restarts::who_does_not_wait_is_told_mysql", |_| who_does_not_wait(Engine::MySql)).only_if(mysql),
    ]
}

/// A server, and a bus in it.
struct Site {
    server: PrivateServer,
    registry: Registry,
    bus: Spawn,
}

impl Site {
    fn new(engine: Engine) -> Self {
        let server = PrivateServer::start(engine, &Options::new()).unwrap();
        let registry = Registry::standard().with_credentials(Credentials::none().with_user(&server.user()));
        let bus = Spawn::builder().protocol(engine.name()).registry(registry.clone()).route(&server.dbi_dsn());
        let bus = bus.guard(false).spawn().unwrap();
        Self { server, registry, bus }
    }

    fn client(&self, name: &str) -> Client {
        Client::builder(name, self.bus.info()).registry(self.registry.clone()).connect().unwrap()
    }

    fn restart(&mut self, as_a_crash: bool) {
        if as_a_crash { self.server.kill() } else { self.server.stop() }.unwrap();
        self.server.start_again().unwrap();
    }
}

fn under_load(engine: Engine) {
    let mut site = Site::new(engine);
    let reader = site.client("reader");
    let mut idle = site.client("idle");
    let builder = Service::builder("echo").bus(site.bus.info()).registry(site.registry.clone());
    let mut echo = builder.on_typed_request(|_, number: u64| Ok(number)).spawn_thread().unwrap();
    assert_eq!(echo.request("echo", &1).unwrap(), 1);
    let (single, together, patient) = (site.client("single"), site.client("together"), site.client("patient"));
    let arrived = AtomicUsize::new(0);
    let (got, idle) = std::thread::scope(|scope| {
        let idle = scope.spawn(move || {
            let message = idle.recv().unwrap();
            (message.content().clone(), idle)
        });
        let senders = [
            scope.spawn(|| send_one_by_one(single)),
            scope.spawn(|| send_together(together)),
            scope.spawn(|| send_without_waiting(patient)),
        ];
        let reading = scope.spawn(|| read(reader, 3 * COUNT, &arrived));
        for quarter in 1..=3 {
            let deadline = Instant::now() + PATIENCE * 4;
            while arrived.load(Ordering::Relaxed) < quarter * 3 * usize::try_from(COUNT).unwrap() / 4 {
                assert!(
                    Instant::now() < deadline,
                    "traffic stands still after {} messages",
                    arrived.load(Ordering::Relaxed)
                );
                std::thread::yield_now();
            }
            site.restart(quarter == 2);
        }
        let [mut single, together, patient] = senders.map(|sender| sender.join().unwrap());
        let (got, mut reader) = reading.join().unwrap();
        single.send("idle", "wake up").unwrap();
        let (content, idle) = idle.join().unwrap();
        assert_eq!(content, "wake up");
        assert!(reader.try_recv().unwrap().is_none(), "more than was sent");
        for client in [single, together, patient, reader] {
            leave(client);
        }
        (got, idle)
    });
    leave(idle);
    for (sender, numbers) in &got {
        assert_eq!(*numbers, (0..COUNT).collect::<Vec<_>>(), "{sender}: lost, doubled or out of order");
    }
    assert_eq!(got.len(), 3);
    assert_eq!(echo.request("echo", &2).unwrap(), 2, "the service has outlived the restarts");
    echo.terminate().unwrap();
}

fn leave(mut client: Client) {
    client.disconnect().unwrap();
}

fn send_one_by_one(mut sender: Client) -> Client {
    for number in 0..COUNT {
        sender.send("reader", &number).unwrap();
    }
    assert_eq!(sender.stats().sent["reader"], i64::try_from(COUNT).unwrap());
    sender
}

fn send_together(mut sender: Client) -> Client {
    for begin in (0..COUNT).step_by(usize::try_from(TOGETHER).unwrap()) {
        let messages = (begin..begin + TOGETHER).map(|number| sender.message("reader", &number).unwrap());
        let messages: Vec<Message> = messages.collect();
        assert_eq!(sender.send_all(messages).unwrap().len(), usize::try_from(TOGETHER).unwrap());
    }
    sender
}

/// Never waits, and sends again under the same id what it was told of.
fn send_without_waiting(mut sender: Client) -> Client {
    for number in 0..COUNT {
        let mut message = sender.message("reader", &number).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = sender.try_send_message(message) {
            assert!(Instant::now() < deadline, "{error:?}");
            assert_away(&error);
            assert!(matches!(error.stored(), Some(Stored::No | Stored::Maybe)), "{error:?}");
            message = error.into_message().unwrap();
            std::thread::yield_now();
        }
    }
    sender
}

fn read(mut reader: Client, count: u64, arrived: &AtomicUsize) -> (BTreeMap<String, Vec<u64>>, Client) {
    let mut got: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for _ in 0..count {
        let message = reader.recv_timeout(PATIENCE).unwrap();
        got.entry(message.from().to_string()).or_default().push(message.content().as_u64().unwrap());
        arrived.fetch_add(1, Ordering::Relaxed);
    }
    (got, reader)
}

fn assert_away(error: &Error) {
    assert!(error.is_away() && error.is_retryable(), "{error:?}");
}

fn who_does_not_wait(engine: Engine) {
    let mut site = Site::new(engine);
    let (mut a, mut b) = (site.client("a"), site.client("b"));
    a.send("b", &0).unwrap();
    assert_eq!(b.recv_timeout(PATIENCE).unwrap().content(), 0);
    site.server.stop().unwrap();
    // A session that is just noticed to be lost leaves it open whether the message was stored; the next does not.
    let first = a.try_send("b", &1).unwrap_err();
    assert_away(&first);
    let message = first.into_message().unwrap();
    let again = a.try_send_message(message).unwrap_err();
    assert_away(&again);
    let message = again.into_message().unwrap();
    assert_away(&b.try_recv().unwrap_err());
    assert_away(&b.get_messages().unwrap_err());
    // Whoever may wait does, until the deadline.
    let begun = Instant::now();
    let late = a.send_message_timeout(message, MOMENT).unwrap_err();
    assert_away(&late);
    assert!(begun.elapsed() >= MOMENT);
    assert_away(&b.recv_timeout(MOMENT).unwrap_err());
    assert_away(&b.wait(Some(MOMENT)).unwrap_err());
    assert!(begun.elapsed() >= MOMENT * 3);
    site.server.start_again().unwrap();
    // It was never stored, or once: under its id it is sent again.
    a.send_message(late.into_message().unwrap()).unwrap();
    a.send("b", &2).unwrap();
    assert_eq!(b.recv_timeout(PATIENCE).unwrap().content(), 1);
    assert_eq!(b.recv_timeout(PATIENCE).unwrap().content(), 2);
    assert!(b.try_recv().unwrap().is_none());
}
