// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every statement of the engine, rendered once for a database and for the columns that its tables have.

use super::dialect::{Dialect, Taking, render};
use super::schema::Schema;

/// The statements. Parameters are named in the order in which they are bound.
#[derive(Debug)]
pub(super) struct Statements {
    /// name: id, pid, active, suspend_expires, holder, stats.
    pub(super) peer: String,
    /// As `peer`, and locks the row.
    pub(super) peer_locked: String,
    /// id, pid, active, suspend_expires, holder of all that are registered, or on their way out.
    pub(super) peers: String,
    /// id, stats of all that have some.
    pub(super) all_stats: String,
    /// name, pid, now, stats, holder.
    pub(super) insert_peer: String,
    /// name.
    pub(super) insert_sender: String,
    /// pid, now, stats, holder, name.
    pub(super) take_name: String,
    /// leaving holder, name, pid, holder.
    pub(super) unlist: String,
    /// name, leaving holder.
    pub(super) leave: String,
    /// deadline, stats, name, pid, holder.
    pub(super) suspend: String,
    /// stats, name.
    pub(super) save_stats: String,
    /// stats, name.
    pub(super) sweep: String,
    /// name, name.
    pub(super) remove_peer: String,
    /// name.
    pub(super) discard: String,
    /// name.
    pub(super) discard_dead: String,
    /// id, to, from, stamp, content, broadcast, more, name of the recipient, its pid; or as `send_by_values` says. No row
    /// or a conflict: the recipient is another by now.
    pub(super) send: String,
    /// id, to, from, stamp, content, broadcast, more: where what depends on the recipient would cost too much.
    pub(super) send_outright: Option<String>,
    /// As `send`, always with these parameters, and neither fails where the message is there already.
    pub(super) send_within: String,
    /// id, name of the recipient, its pid, from, stamp, content, broadcast, more.
    pub(super) send_by_values: bool,
    /// name: pid; locks the row against changes.
    pub(super) recipient_locked: String,
    /// id: to, from, content.
    pub(super) message: String,
    /// name, name: whether a message waits, how many rows the peer has.
    pub(super) look: String,
    /// name, most messages, most bytes: how many messages fit.
    pub(super) fit: String,
    /// name, name, most messages: how many rows the peer has, how many messages wait, and how many bytes they have.
    pub(super) look_and_weigh: String,
    /// name, how many, and now if `take_notes`: sequence and the columns of a message.
    pub(super) take: String,
    /// Whether taking also notes what was taken.
    pub(super) take_notes: bool,
    /// name: number.
    pub(super) front: String,
    /// number, id, to, from, stamp, content, broadcast, more; none where it is there.
    pub(super) put_in_front: String,
    /// id, to, from, stamp, content, broadcast, reason, now.
    pub(super) keep_damaged: String,
    /// name: stamp.
    pub(super) last_stamp: String,
    /// to, how many.
    pub(super) unread: String,
    /// name: how many.
    pub(super) unread_of: String,
    /// name, how many at most: how many.
    pub(super) unread_up_to: String,
    /// id.
    pub(super) was_taken: String,
    /// seconds.
    pub(super) forget_taken: String,
    /// id: id, and waits for whoever is just taking it.
    pub(super) message_locked: String,
    /// Of many messages, each column as a list: id, to, from, stamp, content, broadcast, more. Fails where one is there.
    pub(super) send_columns: Option<String>,
    /// name: id; locks the row against changes. Whether that is to be done for senders, too, before `send_rows`.
    pub(super) sender_locked: String,
    pub(super) locks_senders: bool,
    row: String,
    send_rows: String,
    insert_rows: String,
    insert_end: String,
    delete_rows: String,
    dialect_kind: &'static dyn Dialect,
}

impl Statements {
    #[allow(clippy::too_many_lines, reason = "a list")]
    pub(super) fn new(dialect: &'static dyn Dialect, schema: &Schema) -> Self {
        let render = |template: &str| render(dialect, template);
        let if_has = |has: bool, text: &'static str, otherwise: &'static str| if has { text } else { otherwise };
        let suspend = if_has(schema.suspend, "{suspend_expires!}", "NULL");
        let holder = if_has(schema.holder, "ipcm_holder", "NULL");
        let more = if_has(schema.more, "ipcm_more", "NULL");
        let order = if_has(schema.sequence, "{seq}", "stamp, id");
        let sequence = if_has(schema.sequence, "{seq}", "0");
        // What there is no column for has no parameter either.
        let set_holder = if_has(schema.holder, ", ipcm_holder = :text", "");
        let is_holder = if_has(schema.holder, " AND ipcm_holder {same} :text", "");
        let no_deadline = if_has(schema.suspend, ", suspend_expires = NULL", "");
        let no_holder = if_has(schema.holder, ", ipcm_holder = NULL", "");
        let peer = format!("SELECT id, pid, {{active!}}, {suspend}, {holder}, stats FROM ipcm_peers WHERE id = :text");
        let message = format!("id, [to], [from], stamp, content, broadcast{}", if_has(schema.more, ", ipcm_more", ""));
        let values = format!(":id, :text, :text, :seconds, :bytes, :bool{}", if_has(schema.more, ", :text", ""));
        let columns = format!("{sequence}, {{id!}}, [to], [from], {{stamp!}}, content, broadcast, {more}");
        let mine = "WHERE id = :text AND pid {same} :int";
        let (columns, order_by) = (render(&columns), render(order));
        let take = match dialect.taking() {
            Taking::Returning => dialect.take(&columns, &order_by),
            Taking::LockThenDelete => {
                format!(
                    "SELECT {columns} FROM ipcm_messages WHERE [to] = :text ORDER BY {order_by} LIMIT :int {{update}}"
                )
            }
        };
        let noting = if schema.taken { dialect.noting(&take) } else { None };
        let left = if_has(schema.holder, "active IS NOT NULL OR ipcm_holder IS NOT NULL", "active IS NOT NULL");
        let registered = format!("(SELECT COUNT(*) FROM ipcm_peers WHERE id = :text AND ({left}))");
        let look = format!("SELECT (SELECT 1 FROM ipcm_messages WHERE [to] = :text LIMIT 1), {registered}");
        let look_and_weigh = format!(
            "SELECT {registered}, COUNT(*), SUM(size) FROM (SELECT LENGTH(content) AS size FROM ipcm_messages \
             WHERE [to] = :text ORDER BY {order} LIMIT :int) AS waiting"
        );
        let fit = format!(
            "SELECT COUNT(*) FROM (SELECT SUM(size) OVER (ORDER BY number ROWS UNBOUNDED PRECEDING) AS total FROM \
             (SELECT {} AS number, LENGTH(content) AS size FROM ipcm_messages WHERE [to] = :text \
             ORDER BY {order} LIMIT :int) AS waiting) AS summed WHERE total <= :int",
            if_has(schema.sequence, "{seq}", "stamp"),
        );
        let by_selecting = format!(
            "INSERT INTO ipcm_messages ({message}) SELECT {values} FROM ipcm_peers {mine} AND active IS NOT NULL {{share}}"
        );
        let by_values = format!(
            "INSERT INTO ipcm_messages ({message}) VALUES (:id, \
             (SELECT id FROM ipcm_peers {mine} AND active IS NOT NULL {{share}}), :text, :seconds, :bytes, :bool{})",
            if_has(schema.more, ", :text", ""),
        );
        let send_by_values = dialect.sends_by_values();
        Self {
            peer_locked: render(&format!("{peer} {{update}}")),
            peer: render(&peer),
            peers: render(&format!(
                "SELECT id, pid, {{active!}}, {suspend}, {holder} FROM ipcm_peers WHERE {left} ORDER BY id"
            )),
            all_stats: render("SELECT id, stats FROM ipcm_peers WHERE stats IS NOT NULL"),
            insert_peer: render(&format!(
                "INSERT INTO ipcm_peers (id, pid, active, stats{}) VALUES (:text, :int, :seconds, :bytes{})",
                if_has(schema.holder, ", ipcm_holder", ""),
                if_has(schema.holder, ", :text", "")
            )),
            insert_sender: render(
                "INSERT INTO ipcm_peers (id, pid, active) VALUES (:text, NULL, NULL) {unless there in ipcm_peers}",
            ),
            take_name: render(&format!(
                "UPDATE ipcm_peers SET pid = :int, active = :seconds, stats = :bytes{set_holder}{no_deadline} WHERE id = :text"
            )),
            unlist: render(&format!(
                "UPDATE ipcm_peers SET active = NULL{set_holder}{no_deadline}, pid = NULL {mine}{is_holder}"
            )),
            leave: render(&format!(
                "UPDATE ipcm_peers SET pid = NULL{no_holder} WHERE id = :text AND active IS NULL{is_holder}"
            )),
            suspend: render(&format!(
                "UPDATE ipcm_peers SET {}stats = :bytes{no_holder}, pid = NULL {mine}{is_holder}",
                if_has(schema.suspend, "suspend_expires = :seconds, ", ""),
            )),
            save_stats: render("UPDATE ipcm_peers SET stats = :bytes WHERE id = :text"),
            sweep: render(&format!(
                "UPDATE ipcm_peers SET stats = :bytes, active = NULL{no_deadline}{no_holder}, pid = NULL WHERE id = :text"
            )),
            remove_peer: render(
                "DELETE FROM ipcm_peers WHERE id = :text \
                 AND NOT EXISTS (SELECT 1 FROM ipcm_messages WHERE ipcm_messages.[from] = :text)",
            ),
            discard: render("DELETE FROM ipcm_messages WHERE [to] = :text"),
            discard_dead: render("DELETE FROM ipcm_dead WHERE [to] = :text"),
            send: render(if send_by_values { &by_values } else { &by_selecting }),
            // Whoever has to take back what it stored must know whether it was read.
            send_outright: (dialect.stores_outright() && schema.taken && schema.holder)
                .then(|| render(&format!("INSERT INTO ipcm_messages ({message}) VALUES ({values})"))),
            send_within: render(&format!("{by_selecting} {{unless there in ipcm_messages}}")),
            send_by_values,
            recipient_locked: render("SELECT pid FROM ipcm_peers WHERE id = :text AND active IS NOT NULL {share}"),
            message: render("SELECT [to], [from], content FROM ipcm_messages WHERE id = :id"),
            look: render(&look),
            look_and_weigh: render(&look_and_weigh),
            fit: render(&fit),
            take_notes: noting.is_some(),
            take: render(&noting.unwrap_or(take)),
            front: render(dialect.front()),
            put_in_front: render(&format!(
                "INSERT INTO ipcm_messages ({}, {message}) VALUES (:int, {values}) {{unless there in ipcm_messages}}",
                if_has(schema.sequence, "{seq}", "")
            )),
            keep_damaged: render(
                "INSERT INTO ipcm_damaged (id, [to], [from], stamp, content, broadcast, reason, found) \
                 VALUES (:text, :text, :text, :text, :bytes, :text, :text, :seconds)",
            ),
            last_stamp: render("SELECT {MAX(stamp)!} FROM ipcm_messages WHERE [from] = :text"),
            unread: render("SELECT [to], COUNT(*) FROM ipcm_messages GROUP BY [to]"),
            unread_of: render("SELECT COUNT(*) FROM ipcm_messages WHERE [to] = :text"),
            unread_up_to: render(
                "SELECT COUNT(*) FROM (SELECT 1 AS one FROM ipcm_messages WHERE [to] = :text LIMIT :int) AS waiting",
            ),
            was_taken: render("SELECT 1 FROM ipcm_taken WHERE id = :id"),
            forget_taken: render("DELETE FROM ipcm_taken WHERE taken < :seconds"),
            message_locked: render("SELECT {id!} FROM ipcm_messages WHERE id = :id {update}"),
            send_columns: dialect
                .given(if schema.more { 7 } else { 6 })
                .map(|given| render(&format!("INSERT INTO ipcm_messages ({message}) SELECT ")) + &given),
            sender_locked: render("SELECT id FROM ipcm_peers WHERE id = :text {share}"),
            locks_senders: dialect.insert_unchecked().is_some(),
            row: format!("({values})"),
            send_rows: {
                let insert = dialect.insert_unchecked().unwrap_or("INSERT INTO");
                format!("{insert} ipcm_messages ({message}) VALUES ")
            },
            insert_rows: format!("INSERT INTO ipcm_messages ({message}) VALUES "),
            insert_end: " {unless there in ipcm_messages}".to_owned(),
            delete_rows: "DELETE FROM ipcm_messages WHERE id IN (".to_owned(),
            dialect_kind: dialect,
        }
    }

    /// Inserts a message, unless it is there: its id, to, from, stamp, content, broadcast, more.
    pub(super) fn insert(&self) -> String {
        render(self.dialect_kind, &format!("{}{}{}", self.insert_rows, self.row, self.insert_end))
    }

    /// Inserts so many messages, with these for each; fails where one is there.
    pub(super) fn send_rows(&self, count: usize) -> String {
        let rows = vec![self.row.as_str(); count].join(", ");
        render(self.dialect_kind, &format!("{}{rows}", self.send_rows))
    }

    /// Notes so many ids as taken: for each its id, now.
    pub(super) fn note_taken(&self, count: usize) -> String {
        let rows = vec!["(:id, :seconds)"; count].join(", ");
        let end = "{unless there in ipcm_taken}";
        render(self.dialect_kind, &format!("INSERT INTO ipcm_taken (id, taken) VALUES {rows} {end}"))
    }

    /// Deletes so many messages by id.
    pub(super) fn delete(&self, count: usize) -> String {
        let ids = vec![":id"; count].join(", ");
        render(self.dialect_kind, &format!("{}{ids})", self.delete_rows))
    }
}
