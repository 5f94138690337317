// SPDX-License-Identifier: MIT OR Apache-2.0
//! The line to the server is lost at a commit: whatever became of it, each message is read once, in order, and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ipc_manager::{Client, ErrorKind, Message, Receipt, Spawn, Suspend};
use ipc_manager_testkit::relay::{Lost, Relay};
use ipc_manager_testkit::servers::{Database, Engine, Server, can_start, shared};
use ipc_manager_testkit::{PATIENCE, Sandbox, Test};

pub fn tests() -> Vec<Test> {
    let postgresql: fn() -> Result<(), String> = || can_start(Engine::PostgreSQL);
    let mariadb: fn() -> Result<(), String> = || can_start(Engine::MariaDb);
    let mysql: fn() -> Result<(), String> = || can_start(Engine::MySql);
    vec![
        Test::new("doubt::reading_postgresql", |sandbox| reading(sandbox, Engine::PostgreSQL)).only_if(postgresql),
        Test::new("doubt::reading_mariadb", |sandbox| reading(sandbox, Engine::MariaDb)).only_if(mariadb),
        Test::new("doubt::reading_mysql", |sandbox| reading(sandbox, Engine::MySql)).only_if(mysql),
        Test::new("doubt::suspending_postgresql", |sandbox| suspending(sandbox, Engine::PostgreSQL))
            .only_if(postgresql),
        Test::new("doubt::suspending_mariadb", |sandbox| suspending(sandbox, Engine::MariaDb)).only_if(mariadb),
        Test::new("doubt::suspending_mysql", |sandbox| suspending(sandbox, Engine::MySql)).only_if(mysql),
        Test::new("doubt::leaving_postgresql", |sandbox| leaving(sandbox, Engine::PostgreSQL)).only_if(postgresql),
        Test::new("doubt::leaving_mariadb", |sandbox| leaving(sandbox, Engine::MariaDb)).only_if(mariadb),
        Test::new("doubt::leaving_mysql", |sandbox| leaving(sandbox, Engine::MySql)).only_if(mysql),
        Test::new("doubt::requeuing_postgresql", |sandbox| requeuing(sandbox, Engine::PostgreSQL)).only_if(postgresql),
        Test::new("doubt::requeuing_mariadb", |sandbox| requeuing(sandbox, Engine::MariaDb)).only_if(mariadb),
        Test::new("doubt::requeuing_mysql", |sandbox| requeuing(sandbox, Engine::MySql)).only_if(mysql),
        Test::new("doubt::joining_postgresql", |sandbox| joining(sandbox, Engine::PostgreSQL)).only_if(postgresql),
        Test::new("doubt::joining_mariadb", |sandbox| joining(sandbox, Engine::MariaDb)).only_if(mariadb),
        Test::new("doubt::joining_mysql", |sandbox| joining(sandbox, Engine::MySql)).only_if(mysql),
        Test::new("doubt::receiving_postgresql", |sandbox| receiving(sandbox, Engine::PostgreSQL)).only_if(postgresql),
        Test::new("doubt::receiving_mariadb", |sandbox| receiving(sandbox, Engine::MariaDb)).only_if(mariadb),
        Test::new("doubt::receiving_mysql", |sandbox| receiving(sandbox, Engine::MySql)).only_if(mysql),
        Test::new("doubt::reporting_postgresql", |sandbox| reporting(sandbox, Engine::PostgreSQL)).only_if(postgresql),
        Test::new("doubt::reporting_mariadb", |sandbox| reporting(sandbox, Engine::MariaDb)).only_if(mariadb),
        Test::new("doubt::reporting_mysql", |sandbox| reporting(sandbox, Engine::MySql)).only_if(mysql),
        Test::new("doubt::refusing_postgresql", |sandbox| refusing(sandbox, Engine::PostgreSQL)).only_if(postgresql),
        Test::new("doubt::refusing_mariadb", |sandbox| refusing(sandbox, Engine::MariaDb)).only_if(mariadb),
        Test::new("doubt::refusing_mysql", |sandbox| refusing(sandbox, Engine::MySql)).only_if(mysql),
        Test::new("doubt::another_life_postgresql", |sandbox| another_life(sandbox, Engine::PostgreSQL))
            .only_if(postgresql),
        Test::new("doubt::coming_and_going_postgresql", |sandbox| coming_and_going(sandbox, Engine::PostgreSQL))
            .only_if(postgresql),
        Test::new("doubt::coming_and_going_mariadb", |sandbox| coming_and_going(sandbox, Engine::MariaDb))
            .only_if(mariadb),
        Test::new("doubt::coming_and_going_mysql", |sandbox| coming_and_going(sandbox, Engine::MySql)).only_if(mysql),
        Test::new("doubt::another_life_mariadb", |sandbox| another_life(sandbox, Engine::MariaDb)).only_if(mariadb),
        Test::new("doubt::another_life_mysql", |sandbox| another_life(sandbox, Engine::MySql)).only_if(mysql),
    ]
}

/// A bus whose peers reach their server through something that can lose the line.
struct Site {
    relay: Relay,
    bus: Spawn,
    database: Database,
}

impl Site {
    fn new(sandbox: &Sandbox, engine: Engine) -> Self {
        let database = shared(engine).and_then(Server::fresh_database).unwrap();
        let (name, dir) = (database.name(), sandbox.dir().display());
        let (socket, dsn) = match engine {
            Engine::PostgreSQL => (".s.PGSQL.5432", format!("dbi:Pg:dbname={name};host={dir}")),
            _ => ("relay.sock", format!("dbi:MariaDB:dbname={name};mariadb_socket={dir}/relay.sock")),
        };
        let relay = Relay::to(database.server().socket(), &sandbox.dir().join(socket));
        let builder = Spawn::builder().protocol(engine.name()).guard(false).route(&dsn);
        Self { bus: builder.spawn().unwrap(), relay, database }
    }

    /// A reader for whom five messages wait.
    fn waiting(&self) -> (Client, Client) {
        let (mut a, b) = (self.bus.connect("a").unwrap(), self.bus.connect("b").unwrap());
        for number in 1..=5 {
            a.send("b", &number).unwrap();
        }
        (a, b)
    }

    /// A reader that tried to take five messages, and was not told whether it did.
    fn doubtful(&self, when: Lost) -> (Client, Client) {
        let (a, mut b) = self.waiting();
        self.relay.lose_next_commit(when);
        let error = b.get_messages().unwrap_err();
        assert!(error.is_retryable() && self.relay.has_lost(), "{error:?}");
        (a, b)
    }

    fn ends_balanced(mut self, a: Client, mut b: Client) {
        assert!(b.try_recv().unwrap().is_none(), "nothing comes twice");
        drop((a, b));
        let audit = self.bus.shutdown().unwrap();
        assert!(audit.is_balanced(), "{audit}");
    }
}

fn number(message: &Message) -> u64 {
    message.content().as_u64().unwrap()
}

fn reading(sandbox: &Sandbox, engine: Engine) {
    for when in [Lost::After, Lost::Before] {
        let sandbox = Sandbox::within(sandbox.dir());
        let site = Site::new(&sandbox, engine);
        let (mut a, mut b) = site.doubtful(when);
        assert!(b.is_ready().unwrap(), "{when:?}");
        assert_eq!(number(&b.recv_timeout(PATIENCE).unwrap()), 1);
        assert_eq!(number(&b.try_recv().unwrap().unwrap()), 2);
        a.send("b", &6).unwrap();
        assert_eq!(b.get_at_most(2).unwrap().iter().map(number).collect::<Vec<_>>(), [3, 4]);
        let mut rest = Vec::new();
        while rest.len() < 2 {
            rest.push(number(&b.recv_timeout(PATIENCE).unwrap()));
        }
        assert_eq!(rest, [5, 6]);
        site.ends_balanced(a, b);
    }
}

fn suspending(sandbox: &Sandbox, engine: Engine) {
    for when in [Lost::After, Lost::Before] {
        let sandbox = Sandbox::within(sandbox.dir());
        let site = Site::new(&sandbox, engine);
        let (a, mut b) = site.doubtful(when);
        assert_eq!(number(&b.recv_timeout(PATIENCE).unwrap()), 1);
        b.suspend(Suspend::open_ended()).unwrap();
        let mut b = Client::builder("b", site.bus.info()).reconnect().unwrap();
        let rest: Vec<u64> = (2..=5).map(|_| number(&b.recv_timeout(PATIENCE).unwrap())).collect();
        assert_eq!(rest, [2, 3, 4, 5], "{when:?}");
        site.ends_balanced(a, b);
    }
}

fn receiving(sandbox: &Sandbox, engine: Engine) {
    for when in [Lost::After, Lost::Before] {
        let sandbox = Sandbox::within(sandbox.dir());
        let site = Site::new(&sandbox, engine);
        let (a, mut b) = site.doubtful(when);
        for expected in 1..=5 {
            let delivery = b.receive_timeout(PATIENCE).unwrap();
            assert_eq!((number(delivery.message()), delivery.attempts()), (expected, 1), "{when:?}");
            delivery.acknowledge(&mut b).unwrap();
        }
        site.ends_balanced(a, b);
    }
}

/// What is no message among those that were in doubt is reported once, whatever becomes of the others.
fn reporting(sandbox: &Sandbox, engine: Engine) {
    let (quote, id, content) = match engine {
        Engine::PostgreSQL => ("\"", "gen_random_uuid()", "decode('ff', 'hex')"),
        _ => ("`", "UUID()", "X'ff'"),
    };
    let columns = format!("id, {quote}to{quote}, {quote}from{quote}, stamp, content, broadcast");
    for when in [Lost::After, Lost::Before] {
        let sandbox = Sandbox::within(sandbox.dir());
        let site = Site::new(&sandbox, engine);
        let (a, mut b) = site.waiting();
        let junk = format!("INSERT INTO ipcm_messages ({columns}) VALUES ({id}, 'b', 'a', 1.5, {content}, FALSE)");
        site.database.execute(&junk).unwrap();
        site.relay.lose_next_commit(when);
        b.get_messages().unwrap_err();
        assert!(site.relay.has_lost() && b.take_damaged().is_empty(), "{when:?}");
        for expected in 1..=5 {
            let delivery = b.receive_timeout(PATIENCE).unwrap();
            assert_eq!(number(delivery.message()), expected, "{when:?}");
            delivery.acknowledge(&mut b).unwrap();
        }
        assert!(b.try_receive().unwrap().is_none());
        let damaged = b.take_damaged();
        assert_eq!(damaged.len(), 1, "{when:?}: {damaged:?}");
        assert!(damaged[0].set_aside().is_some_and(|kept| kept.starts_with("ipcm_damaged")), "{damaged:?}");
        site.ends_balanced(a, b);
    }
}

/// A peer that was known leaves; what is sent to it then is refused, and nothing of it stays, whenever the line is lost.
fn refusing(sandbox: &Sandbox, engine: Engine) {
    for when in [None, Some(Lost::After), Some(Lost::Before)] {
        let sandbox = Sandbox::within(sandbox.dir());
        let mut site = Site::new(&sandbox, engine);
        let (mut a, mut b) = site.waiting();
        assert_eq!(b.get_at_most(5).unwrap().len(), 5);
        b.disconnect().unwrap();
        when.into_iter().for_each(|when| site.relay.lose_next_commit(when));
        let error = a.send("b", "to nobody").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSuchPeer, "{when:?}: {error:?}");
        let waiting = site.database.execute("SELECT COUNT(*) FROM ipcm_messages").unwrap();
        assert_eq!(waiting.trim(), "0", "{when:?}");
        drop(a);
        let audit = site.bus.shutdown().unwrap();
        assert!(audit.is_balanced(), "{audit}");
    }
}

/// A peer that was known has left, and another has its name, or will: who has it gets what is sent, once.
fn another_life(sandbox: &Sandbox, engine: Engine) {
    let site = Site::new(sandbox, engine);
    let (mut a, mut b) = site.waiting();
    assert_eq!(b.get_at_most(5).unwrap().len(), 5);
    b.disconnect().unwrap();
    let mut b = site.bus.connect("b").unwrap();
    assert_eq!(a.send("b", &6).unwrap(), Receipt::Delivered);
    assert_eq!(number(&b.recv_timeout(PATIENCE).unwrap()), 6);
    b.suspend(Suspend::open_ended()).unwrap();
    assert_eq!(a.send("b", &7).unwrap(), Receipt::Stored);
    let mut b = Client::builder("b", site.bus.info()).reconnect().unwrap();
    assert_eq!(a.send("b", &8).unwrap(), Receipt::Delivered);
    let both = [7, 8].map(|_| number(&b.recv_timeout(PATIENCE).unwrap()));
    assert_eq!(both, [7, 8]);
    site.ends_balanced(a, b);
}

/// Whoever sends to a name whose holders come and go is told the truth: what was taken is read once, in order, and what
/// was refused is nowhere.
fn coming_and_going(sandbox: &Sandbox, engine: Engine) {
    let mut site = Site::new(sandbox, engine);
    let mut a = site.bus.connect("a").unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let ends = Arc::clone(&is_over);
    let sending = std::thread::spawn(move || {
        let (mut taken, mut refused) = (Vec::new(), 0_u64);
        for number in 0_u64.. {
            if ends.load(Ordering::SeqCst) {
                break;
            }
            match a.send("b", &number) {
                Ok(_) => taken.push(number),
                Err(error) if error.kind() == ErrorKind::NoSuchPeer => refused += 1,
                Err(error) => panic!("{error:?}"),
            }
        }
        (taken, refused)
    });
    let mut read = Vec::new();
    for _ in 0..25 {
        let mut b = site.bus.connect("b").unwrap();
        (0..3).for_each(|_| read.push(number(&b.recv_timeout(PATIENCE).unwrap())));
        b.disconnect_with(|messages| read.extend(messages.iter().map(number))).unwrap();
    }
    is_over.store(true, Ordering::SeqCst);
    let (taken, refused) = sending.join().unwrap();
    assert!(read == taken && refused > 0, "{refused} refused; {:?}", read.iter().zip(&taken).find(|(a, b)| a != b));
    let waiting = site.database.execute("SELECT COUNT(*) FROM ipcm_messages").unwrap();
    assert_eq!(waiting.trim(), "0");
    drop(site.bus.shutdown().unwrap());
}

/// The line is lost again while what was in doubt is given back, and as the name is kept.
fn leaving(sandbox: &Sandbox, engine: Engine) {
    for (when, is_in_doubt) in [(Lost::After, true), (Lost::Before, true), (Lost::After, false), (Lost::Before, false)]
    {
        let sandbox = Sandbox::within(sandbox.dir());
        let site = Site::new(&sandbox, engine);
        let (a, mut b) = if is_in_doubt { site.doubtful(Lost::After) } else { site.waiting() };
        site.relay.lose_next_commit(when);
        b.suspend(Suspend::open_ended()).unwrap();
        assert!(site.relay.has_lost(), "{when:?}");
        let mut b = Client::builder("b", site.bus.info()).reconnect().unwrap();
        let all: Vec<u64> = (1..=5).map(|_| number(&b.recv_timeout(PATIENCE).unwrap())).collect();
        assert_eq!(all, [1, 2, 3, 4, 5], "{when:?} {is_in_doubt}");
        site.ends_balanced(a, b);
    }
}

/// Putting back is done once, and may be asked for again by who does not know whether it was.
fn requeuing(sandbox: &Sandbox, engine: Engine) {
    for when in [Lost::After, Lost::Before] {
        let sandbox = Sandbox::within(sandbox.dir());
        let site = Site::new(&sandbox, engine);
        let (a, mut b) = site.waiting();
        let mut taken: Vec<Message> = Vec::new();
        while taken.len() < 3 {
            taken.extend(b.get_at_most(3 - taken.len()).unwrap());
        }
        site.relay.lose_next_commit(when);
        b.requeue(&taken).unwrap();
        assert!(site.relay.has_lost(), "{when:?}");
        b.requeue(&taken).unwrap();
        let all: Vec<u64> = (1..=5).map(|_| number(&b.recv_timeout(PATIENCE).unwrap())).collect();
        assert_eq!(all, [1, 2, 3, 4, 5], "{when:?}");
        site.ends_balanced(a, b);
    }
}

/// A name is had, or it is free: never taken by a call that says that it failed.
fn joining(sandbox: &Sandbox, engine: Engine) {
    for when in [Lost::After, Lost::Before] {
        let sandbox = Sandbox::within(sandbox.dir());
        let site = Site::new(&sandbox, engine);
        let (mut a, _b) = site.waiting();
        site.relay.lose_next_commit(when);
        let joined = site.bus.connect("c").or_else(|_| site.bus.connect("c"));
        assert!(site.relay.has_lost(), "{when:?}");
        let mut c = joined.unwrap_or_else(|error| panic!("{when:?}: {error:?}"));
        a.send("c", "here").unwrap();
        assert_eq!(c.recv_timeout(PATIENCE).unwrap().content(), "here");
    }
}
