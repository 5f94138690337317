// SPDX-License-Identifier: MIT OR Apache-2.0
//! Protocols that break a promise, and the clauses that must notice: a suite that passes everything proves nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use ipc_manager::{
    Capabilities, Cleaning, Connection, Connections, CreateOptions, Credentials, Dead, Deliveries, Directory, Envelope,
    Held, Hold, Inbox, Leave, Message, NotViable, OpenOptions, Opened, Payloads, PeerName, Protocol, ProtocolName,
    Receipt, Registry, Result, Route, Serializer, Stats, Wake, Wanted,
};
use ipc_manager_testkit::{Context, Sandbox, Subject, Test, clauses};

/// What is wrong with a protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Every third message is acknowledged and not stored.
    Loses,
    /// Every third message is stored twice.
    Doubles,
    /// Messages sent together are stored in reverse.
    Reverses,
    /// Says that messages wait when none do.
    IsAlwaysReady,
    /// Messages that were put back are gone.
    ForgetsWhatWasPutBack,
    /// Counters are not stored.
    ForgetsCounters,
    /// The name can still be sent to while its holder leaves, and what is sent then is lost.
    StaysListed,
    /// What is to be acknowledged leaves the store when it is handed out.
    TakesAtOnce,
}

/// Each fault, a registry with the protocol that has it, and a clause that must fail over it.
type Case = (Fault, fn() -> Registry, &'static str);

const CASES: [Case; 8] = [
    (Fault::Loses, || with(Fault::Loses), "order.in_batches"),
    (Fault::Doubles, || with(Fault::Doubles), "order.per_sender"),
    (Fault::Reverses, || with(Fault::Reverses), "order.in_batches"),
    (Fault::IsAlwaysReady, || with(Fault::IsAlwaysReady), "wait.ready"),
    (Fault::ForgetsWhatWasPutBack, || with(Fault::ForgetsWhatWasPutBack), "requeue.leaves_freely"),
    (Fault::ForgetsCounters, || with(Fault::ForgetsCounters), "stats.outlive_their_peer"),
    (Fault::StaysListed, || with(Fault::StaysListed), "leave.unreachable_at_once"),
    (Fault::TakesAtOnce, || with(Fault::TakesAtOnce), "delivery.put_back_in_order"),
];

pub fn tests() -> Vec<Test> {
    ipc_manager_testkit::tests![each_broken_promise_is_noticed]
}

fn each_broken_promise_is_noticed(_: &Sandbox) {
    for (fault, registry, clause) in CASES {
        let subject = Subject::new("LocalMemory").with_registry(registry);
        let clause = clauses().into_iter().find(|known| known.id == clause).expect("the clause is in the suite");
        let noticed = catch_unwind(AssertUnwindSafe(|| (clause.run)(&Context::new(&subject)))).is_err();
        assert!(noticed, "{} passes over a protocol that {fault:?}", clause.id);
        println!("the above was meant: {} notices a protocol that {fault:?}", clause.id);
    }
}

/// The standard registry with a protocol in memory that has a fault.
fn with(fault: Fault) -> Registry {
    let sound = Arc::clone(Registry::standard().get("LocalMemory").expect("it is built in"));
    Registry::standard().with(Arc::new(FaultyProtocol { sound, fault }))
}

#[derive(Debug)]
struct FaultyProtocol {
    sound: Arc<dyn Protocol>,
    fault: Fault,
}

impl Protocol for FaultyProtocol {
    fn name(&self) -> ProtocolName {
        self.sound.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.sound.capabilities()
    }

    fn viable(&self) -> Result<(), NotViable> {
        self.sound.viable()
    }

    fn create(&self, options: &CreateOptions) -> Result<Route> {
        self.sound.create(options)
    }

    fn hold(&self, route: &Route, credentials: &Credentials, guarded: bool, instead_of: Option<Hold>) -> Result<Hold> {
        self.sound.hold(route, credentials, guarded, instead_of)
    }

    fn open(&self, route: &Route, options: OpenOptions) -> Result<Opened> {
        let Opened { connection, stats, discarded } = self.sound.open(route, options)?;
        let faulty = FaultyConnection { sound: connection, fault: self.fault, sent: 0 };
        Ok(Opened { connection: Box::new(faulty), stats, discarded })
    }

    fn observe(
        &self,
        route: &Route,
        credentials: &Credentials,
        serializer: Arc<dyn Serializer>,
    ) -> Result<Box<dyn Directory>> {
        self.sound.observe(route, credentials, serializer)
    }

    fn clean(&self, cleaning: &mut Cleaning) {
        self.sound.clean(cleaning);
    }

    fn destroy(&self, route: &Route, credentials: &Credentials) -> Result<()> {
        self.sound.destroy(route, credentials)
    }
}

#[derive(Debug)]
struct FaultyConnection {
    sound: Box<dyn Connection>,
    fault: Fault,
    sent: usize,
}

impl Connection for FaultyConnection {
    fn deliver(&mut self, envelopes: &[Envelope<'_>], receipts: &mut Vec<Receipt>) -> Result<()> {
        let mut order: Vec<&Envelope<'_>> = envelopes.iter().collect();
        if self.fault == Fault::Reverses {
            order.reverse();
        }
        for envelope in order {
            self.sent += 1;
            let third = self.sent.is_multiple_of(3);
            match self.fault {
                Fault::Loses if third => receipts.push(Receipt::Delivered),
                Fault::Doubles if third => {
                    self.sound.deliver(std::slice::from_ref(envelope), receipts)?;
                    self.sound.deliver(std::slice::from_ref(envelope), &mut Vec::new())?;
                }
                _ => self.sound.deliver(std::slice::from_ref(envelope), receipts)?,
            }
        }
        Ok(())
    }

    fn room(&self, to: &ipc_manager::PeerName) -> Wake<'_> {
        self.sound.room(to)
    }

    fn collect(&mut self, most: usize, bytes: usize, inbox: &mut Inbox) -> Result<()> {
        self.sound.collect(most, bytes, inbox)
    }

    fn is_ready(&mut self) -> Result<bool> {
        Ok(self.sound.is_ready()? || self.fault == Fault::IsAlwaysReady)
    }

    fn is_pending(&mut self) -> Result<bool> {
        self.sound.is_pending()
    }

    fn put_back(&mut self, messages: &[Message]) -> Result<()> {
        if self.fault == Fault::ForgetsWhatWasPutBack { Ok(()) } else { self.sound.put_back(messages) }
    }

    fn wake(&self, wanted: Wanted) -> Wake<'_> {
        self.sound.wake(wanted)
    }

    fn directory(&mut self) -> &mut dyn Directory {
        self.sound.directory()
    }

    fn connections(&mut self) -> Option<&mut dyn Connections> {
        self.sound.connections()
    }

    fn payloads(&mut self) -> Option<&mut dyn Payloads> {
        None
    }

    fn deliveries(&mut self) -> Option<&mut dyn Deliveries> {
        if self.fault == Fault::TakesAtOnce { Some(self) } else { self.sound.deliveries() }
    }

    fn unlist(&mut self) -> Result<()> {
        if self.fault == Fault::StaysListed { Ok(()) } else { self.sound.unlist() }
    }

    fn seal(&mut self, inbox: &mut Inbox) -> Result<()> {
        if self.fault == Fault::StaysListed { Ok(()) } else { self.sound.seal(inbox) }
    }

    fn close(&mut self, leave: Leave, stats: &Stats) -> Result<()> {
        match self.fault {
            Fault::ForgetsCounters => self.sound.close(leave, &Stats::default()),
            // The name stays for ever.
            Fault::StaysListed => Ok(()),
            _ => self.sound.close(leave, stats),
        }
    }
}

impl FaultyConnection {
    fn sound_deliveries(&mut self) -> &mut dyn Deliveries {
        self.sound.deliveries().expect("the sound one has them")
    }
}

impl Deliveries for FaultyConnection {
    fn hold(&mut self, inbox: &mut Inbox) -> Result<Option<Held>> {
        let held = self.sound_deliveries().hold(inbox)?;
        held.iter().try_for_each(|held| self.sound_deliveries().acknowledge(held.mark))?;
        Ok(held)
    }

    fn acknowledge(&mut self, mark: u64) -> Result<()> {
        self.sound_deliveries().acknowledge(mark)
    }

    fn release(&mut self, mark: u64) -> Result<()> {
        self.sound_deliveries().release(mark)
    }

    fn dead(&mut self, of: &PeerName) -> Result<Vec<Dead>> {
        self.sound_deliveries().dead(of)
    }

    fn revive(&mut self, of: &PeerName, id: Option<&str>) -> Result<usize> {
        self.sound_deliveries().revive(of, id)
    }
}
