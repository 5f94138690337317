// SPDX-License-Identifier: MIT OR Apache-2.0
//! What every protocol must hold, one theme a file.

mod bus;
mod connections;
mod crash;
mod delivery;
mod delivery_after_death;
mod delivery_leaving;
mod full;
mod group;
mod kernel;
mod leave;
mod load;
mod names;
mod observe;
mod order;
mod outbox;
mod owner;
mod peers;
mod power;
mod race;
mod requeue;
mod service_asked;
mod service_gone;
mod service_loop;
mod size;
mod stats;
mod steps;
mod steps_asked;
mod suspend;
mod torture;
mod wait;

use crate::Clause;

/// Every clause, theme by theme.
///
/// ```
/// assert!(ipc_manager_testkit::clauses().iter().any(|clause| clause.id == "order.per_sender"));
/// ```
#[must_use]
pub fn all() -> Vec<&'static Clause> {
    let themes = [
        bus::CLAUSES,
        order::CLAUSES,
        names::CLAUSES,
        race::CLAUSES,
        peers::CLAUSES,
        power::CLAUSES,
        wait::CLAUSES,
        size::CLAUSES,
        full::CLAUSES,
        outbox::CLAUSES,
        requeue::CLAUSES,
        delivery::CLAUSES,
        delivery_leaving::CLAUSES,
        delivery_after_death::CLAUSES,
        stats::CLAUSES,
        leave::CLAUSES,
        suspend::CLAUSES,
        crash::CLAUSES,
        steps::CLAUSES,
        steps_asked::CLAUSES,
        kernel::CLAUSES,
        connections::CLAUSES,
        load::CLAUSES,
        group::CLAUSES,
        owner::CLAUSES,
        observe::CLAUSES,
        service_asked::CLAUSES,
        service_loop::CLAUSES,
        service_gone::CLAUSES,
        torture::CLAUSES,
    ];
    themes.into_iter().flatten().collect()
}
