// SPDX-License-Identifier: MIT OR Apache-2.0
//! The end of a run: everybody finishes in good order, and nothing is left.

use std::time::{Duration, Instant};

use ipc_manager::Spawn;

use super::actor::{Actor, State};
use super::plan::{Back, Part};
use super::supervise::Supervisor;
use super::worker::{LEAVING, Order};

impl Supervisor<'_> {
    /// Ends the run: nothing is injured any more, everybody finishes, and nothing is left.
    pub(super) fn end(&mut self) {
        for whom in 0..self.actors.len() {
            let actor = &mut self.actors[whom];
            actor.cont();
            if actor.state == State::Gone && actor.part != Part::Owner {
                actor.start(&self.stage, Back::Continued);
            }
        }
        for parts in [&[Part::Sender, Part::Asker][..], &[Part::Reader, Part::Service]] {
            for actor in self.actors.iter_mut().filter(|actor| parts.contains(&actor.part)) {
                if actor.state != State::Gone {
                    actor.tell(Order::Finish);
                }
            }
            self.until_gone(parts);
        }
        self.sweep_at_the_end();
        if self.actors[0].state == State::Gone {
            self.heir_ends_it();
        } else {
            self.actors[0].tell(Order::Finish);
            self.until_gone(&[Part::Owner]);
        }
        let left = self.stage.ground.leftovers();
        let temporary = crate::removal::listing(self.stage.temporary);
        self.leftovers.extend(left);
        self.leftovers.extend(temporary.iter().map(|path| path.display().to_string()));
        if Spawn::adopt_with(&self.info(), self.stage.subject.registry()).is_ok() {
            self.leftovers.push("the bus itself".into());
        }
    }

    fn until_gone(&mut self, parts: &[Part]) {
        let remains = |actor: &Actor| parts.contains(&actor.part) && actor.state != State::Gone;
        while self.actors.iter().any(remains) {
            self.look();
            self.actors.iter().for_each(Actor::runs_on);
            std::thread::sleep(Duration::from_millis(5)); // between two looks
        }
    }

    fn sweep_at_the_end(&mut self) {
        let Some(mut broom) = self.broom.take() else { return };
        // A server may have ended its session meanwhile, which it learns now.
        if let Err(error) = broom.reap().or_else(|_| broom.reap()) {
            self.violations.push(format!("the last sweep failed: {error:?}"));
        }
        match broom.reap() {
            Ok(found) if found.is_empty() => {}
            found => self.violations.push(format!("the second sweep found {found:?}")),
        }
        let peers = broom.all_peers().unwrap_or_default();
        self.leftovers.extend(peers.iter().map(|peer| format!("peer {}", peer.name)));
        if let Err(error) = broom.disconnect() {
            self.violations.push(format!("who sweeps cannot leave: {error:?}"));
        }
    }

    /// Somebody else ends the bus whose owner was killed.
    fn heir_ends_it(&mut self) {
        let begun = Instant::now();
        let ended = Spawn::adopt_with(&self.info(), self.stage.subject.registry()).and_then(|mut heir| heir.shutdown());
        if let Err(error) = ended {
            self.violations.push(format!("the bus of a killed owner cannot be ended: {error:?}"));
        }
        if begun.elapsed() > LEAVING * 2 {
            self.hung += 1;
            self.violations.push(format!("ending the bus of a killed owner took {:?}", begun.elapsed()));
        }
    }
}
