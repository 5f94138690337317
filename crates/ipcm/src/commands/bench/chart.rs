// SPDX-License-Identifier: MIT OR Apache-2.0
//! The figures as a picture: for each size of the content the rates on the left and the round trips on the right.

use std::fmt::Write as _;

use super::report::{OfSize, OneWay, Report, RoundTrip, short_rate, short_size, short_time};

/// Everything is in units of the picture, which has this width.
const WIDTH: f64 = 960.0;
/// Where the names of protocols end, and the bars begin.
const LEFT: f64 = 140.0;
/// How wide the longest bar is, with room for its figure behind it.
const BAR: f64 = 330.0;
/// Where the round trips begin, and how wide the longest is.
const RIGHT: f64 = 610.0;
const TRIP: f64 = 210.0;
/// Height of one bar, and between the groups of two protocols.
const LINE: f64 = 15.0;
const GAP: f64 = 12.0;
/// Longest name of a protocol that has room, in characters.
const NAME: usize = 16;
/// One colour for each kind of bar, also apart for those who see no red.
const COLOURS: [&str; 6] = ["#1b6ca8", "#6fb1e0", "#b5651d", "#e8b27a", "#4d7c3a", "#a3c98f"];
const TRIP_COLOUR: &str = "#5b4b8a";
const INK: &str = "#222222";
const FAINT: &str = "#777777";
const GRID: &str = "#cccccc";

/// Draws the report.
pub(super) fn svg(report: &Report) -> String {
    let mut picture = Picture::default();
    let heading = format!("ipcm bench: {}, {} cores, processes of their own", report.serializer, report.cores);
    picture.text(20.0, 28.0, "start", 17, INK, &heading);
    let kinds = kinds(report);
    legend(&mut picture, &kinds, report);
    let mut sizes: Vec<usize> = Vec::new();
    for size in report.protocols.iter().flat_map(|protocol| &protocol.sizes) {
        if !sizes.contains(&size.content_bytes) {
            sizes.push(size.content_bytes);
        }
    }
    for size in sizes {
        panel(&mut picture, report, size, &kinds);
    }
    if picture.bottom < 80.0 {
        picture.text(20.0, 90.0, "start", 13, FAINT, "Nothing was measured.");
        picture.bottom = 110.0;
    }
    picture.finished()
}

/// The kinds of rates there are, as senders and messages at once.
fn kinds(report: &Report) -> Vec<(usize, usize)> {
    let mut kinds = Vec::new();
    let sizes = report.protocols.iter().flat_map(|protocol| &protocol.sizes);
    for one_way in sizes.flat_map(|size| &size.one_way) {
        if !kinds.contains(&(one_way.senders, one_way.batch)) {
            kinds.push((one_way.senders, one_way.batch));
        }
    }
    kinds
}

fn colour(kind: usize) -> &'static str {
    COLOURS[kind % COLOURS.len()]
}

fn legend(picture: &mut Picture, kinds: &[(usize, usize)], report: &Report) {
    let mut x = 20.0;
    let mut y = 52.0;
    for (number, (senders, batch)) in kinds.iter().enumerate() {
        let how = if *batch > 1 { "send_all" } else { "send" };
        let label = if *senders == 1 { format!("1 sender, {how}") } else { format!("{senders} senders, {how}") };
        if x + 170.0 > WIDTH {
            x = 20.0;
            y += 18.0;
        }
        picture.rectangle(x, y - 9.0, 12.0, 10.0, colour(number));
        picture.text(x + 18.0, y, "start", 12, INK, &label);
        x += 155.0;
    }
    if report.protocols.iter().any(|protocol| protocol.floor.is_some()) {
        let y = y + 18.0;
        picture.rectangle(25.0, y - 10.0, 2.0, 12.0, INK);
        picture.text(
            38.0,
            y,
            "start",
            12,
            INK,
            "the same bytes over the bare transport, one call a message; in brackets the ratio to it",
        );
        picture.bottom = y;
    } else {
        picture.bottom = y;
    }
}

fn panel(picture: &mut Picture, report: &Report, bytes: usize, kinds: &[(usize, usize)]) {
    let rows: Vec<(&str, &OfSize)> = report
        .protocols
        .iter()
        .flat_map(|protocol| protocol.sizes.iter().map(|size| (protocol.protocol.as_str(), size)))
        .filter(|(_, size)| size.content_bytes == bytes)
        .collect();
    let mut y = picture.bottom + 34.0;
    picture.text(20.0, y, "start", 14, INK, &short_size(bytes));
    picture.text(LEFT, y, "start", 12, FAINT, "messages a second, one way");
    picture.text(RIGHT, y, "start", 12, FAINT, "round trip in µs: median, and line to 99 %");
    y += 24.0;
    let rates = Scale::over(rows.iter().flat_map(|(_, size)| &size.one_way).flat_map(both_rates), LEFT, BAR);
    let trips = rows.iter().filter_map(|(_, size)| size.round_trip.as_ref());
    let trips =
        Scale::over(trips.flat_map(|trip| [trip.p50_us, trip.p99_us, trip.floor_p50_us.unwrap_or(0.0)]), RIGHT, TRIP);
    let group = LINE * bars_as_float(kinds.len().max(1)) + GAP;
    let bottom = y + group * bars_as_float(rows.len()) - GAP;
    for scale in [&rates, &trips] {
        scale.draw(picture, y, bottom);
    }
    for (name, size) in rows {
        let bars = kinds.len().max(1);
        let height = LINE * bars_as_float(bars);
        let name: String = name.chars().take(NAME).collect();
        picture.text(LEFT - 10.0, y + height / 2.0 + 4.0, "end", 12, INK, &name);
        if let Some(reason) = &size.skipped {
            let reason: String = reason.chars().take(60).collect();
            picture.text(LEFT, y + height / 2.0 + 4.0, "start", 11, FAINT, &reason);
        }
        for one_way in &size.one_way {
            let Some(number) = kinds.iter().position(|kind| *kind == (one_way.senders, one_way.batch)) else {
                continue;
            };
            rate_bar(picture, y + LINE * bars_as_float(number), one_way, &rates, colour(number));
        }
        if let Some(trip) = &size.round_trip {
            trip_bar(picture, y + height / 2.0, trip, &trips);
        }
        y += height + GAP;
    }
    picture.bottom = y;
}

/// The rate, and that of the bare transport with a call for each message.
fn both_rates(one_way: &OneWay) -> [f64; 2] {
    [one_way.messages_per_second, bare_rate(one_way).unwrap_or(0.0)]
}

fn bare_rate(one_way: &OneWay) -> Option<f64> {
    let ratio = one_way.ratio_to_single_sends.filter(|ratio| *ratio > 0.0)?;
    Some(one_way.messages_per_second / ratio)
}

fn bars_as_float(bars: usize) -> f64 {
    f64::from(u16::try_from(bars).unwrap_or(u16::MAX))
}

/// Powers of ten, side by side: what is twice as much is as far apart everywhere.
struct Scale {
    left: f64,
    lowest: f64,
    unit: f64,
    powers: u16,
}

impl Scale {
    /// The powers of ten that hold all figures; those of nothing are left out.
    fn over(figures: impl Iterator<Item = f64>, left: f64, width: f64) -> Self {
        let (least, most) = figures
            .filter(|figure| *figure > 0.0)
            .fold((f64::MAX, 0.0), |(least, most), figure| (f64::min(least, figure), f64::max(most, figure)));
        let lowest = if least > most { 0.0 } else { least.log10().floor() };
        let powers = if least > most { 1.0 } else { (most.log10().ceil() - lowest).max(1.0) };
        // From one thousandth to a trillion there are few.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        Self { left, lowest, unit: width / powers, powers: powers as u16 }
    }

    /// How far right a figure is.
    fn at(&self, figure: f64) -> f64 {
        let power = if figure > 0.0 { figure.log10() - self.lowest } else { 0.0 };
        self.left + power.max(0.0) * self.unit
    }

    fn draw(&self, picture: &mut Picture, top: f64, bottom: f64) {
        for power in 0..=self.powers {
            let x = self.left + f64::from(power) * self.unit;
            picture.rectangle(x - 0.25, top - 4.0, 0.5, bottom - top + 8.0, GRID);
            let figure = 10_f64.powf(self.lowest + f64::from(power));
            let label = if figure >= 1e6 { format!("{}M", figure / 1e6) } else { plain(figure) };
            picture.text(x, top - 7.0, "middle", 10, FAINT, &label);
        }
    }
}

/// A power of ten below a million.
fn plain(figure: f64) -> String {
    if figure >= 1e3 { format!("{}k", figure / 1e3) } else { format!("{figure}") }
}

fn rate_bar(picture: &mut Picture, y: f64, one_way: &OneWay, scale: &Scale, colour: &str) {
    let mut end = scale.at(one_way.messages_per_second);
    picture.rectangle(LEFT, y + 1.0, (end - LEFT).max(1.0), LINE - 3.0, colour);
    if let Some(floor) = bare_rate(one_way) {
        let floor = scale.at(floor);
        picture.rectangle(floor - 1.0, y, 2.0, LINE - 1.0, INK);
        end = end.max(floor);
    }
    let ratio = one_way.ratio_to_single_sends.map_or(String::new(), |ratio| format!("  ({ratio:.2})"));
    let figure = format!("{}{ratio}", short_rate(one_way.messages_per_second));
    picture.text(end + 6.0, y + LINE - 4.0, "start", 11, INK, &figure);
}

fn trip_bar(picture: &mut Picture, middle: f64, trip: &RoundTrip, scale: &Scale) {
    let (median, most) = (scale.at(trip.p50_us), scale.at(trip.p99_us));
    picture.rectangle(RIGHT, middle - 7.0, (median - RIGHT).max(1.0), 14.0, TRIP_COLOUR);
    picture.rectangle(median, middle - 0.75, (most - median).max(0.0), 1.5, TRIP_COLOUR);
    picture.rectangle(most - 0.75, middle - 4.0, 1.5, 8.0, TRIP_COLOUR);
    let mut end = most;
    if let Some(floor) = trip.floor_p50_us {
        let floor = scale.at(floor);
        picture.rectangle(floor - 1.0, middle - 9.0, 2.0, 18.0, INK);
        end = end.max(floor);
    }
    let ratio = trip.ratio.map_or(String::new(), |ratio| format!(" ({ratio:.2})"));
    let figure = format!("{}{ratio}, {}", short_time(trip.p50_us), short_time(trip.p99_us));
    picture.text(end + 7.0, middle + 4.0, "start", 11, INK, &figure);
}

/// What is drawn so far, and how far down it goes.
#[derive(Default)]
struct Picture {
    body: String,
    bottom: f64,
}

impl Picture {
    fn rectangle(&mut self, x: f64, y: f64, width: f64, height: f64, colour: &str) {
        let _ = writeln!(
            self.body,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/>"
        );
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, size: u8, colour: &str, text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        let _ = writeln!(
            self.body,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"{size}\" fill=\"{colour}\">{text}</text>"
        );
    }

    fn finished(self) -> String {
        let (body, height) = (self.body, self.bottom + 12.0);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" \
             font-family=\"Helvetica, Arial, sans-serif\">\n\
             <rect width=\"{WIDTH}\" height=\"{height:.0}\" fill=\"#ffffff\"/>\n{body}</svg>\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::OfProtocol;
    use super::*;

    /// Figures that are as wide as they get.
    fn report() -> Report {
        let one_way = |senders, batch, rate: f64| OneWay {
            senders,
            batch,
            messages_a_round: 1,
            messages_per_second: rate,
            megabytes_per_second: 1.0,
            floor_messages_per_second: Some(rate * 1.5),
            ratio: Some(99.99),
            ratio_to_single_sends: Some(99.99),
        };
        let protocol = |name: &str, scale: f64| OfProtocol {
            protocol: name.to_owned(),
            skipped: None,
            floor: Some("to a <pipe> & more".to_owned()),
            sizes: vec![OfSize {
                content_bytes: 100,
                message_bytes: 320,
                skipped: None,
                one_way: vec![one_way(1, 1, 12_345_678.0 * scale), one_way(4, 64, 1.0)],
                round_trip: Some(RoundTrip {
                    samples: 1,
                    p50_us: 123_456.0 * scale,
                    p90_us: 1.0,
                    p99_us: 123_456.0 * scale,
                    p999_us: 1.0,
                    floor_p50_us: Some(123_456.0),
                    ratio: Some(1.0),
                }),
                request: None,
            }],
        };
        let long = "A".repeat(100);
        Report {
            cores: 64,
            serializer: "JSON".into(),
            rounds: 7,
            protocols: vec![protocol(&long, 1.0), protocol("<&>", 0.01)],
        }
    }

    /// The numbers of an attribute.
    fn numbers(line: &str, attribute: &str) -> f64 {
        let rest = line.split(&format!(" {attribute}=\"")).nth(1).unwrap();
        rest.split('"').next().unwrap().parse().unwrap()
    }

    #[test]
    fn nothing_leaves_the_picture_or_runs_into_the_next_column() {
        let picture = svg(&report());
        for line in picture.lines().filter(|line| line.starts_with("<text")) {
            let text = line.split('>').nth(1).unwrap().split("</text").next().unwrap();
            let (x, size) = (numbers(line, "x"), numbers(line, "font-size"));
            // No letter of these fonts is wider on average.
            let width = size * 0.6 * bars_as_float(text.chars().count());
            if line.contains("\"middle\"") {
                assert!(x - width / 2.0 >= 0.0 && x + width / 2.0 <= WIDTH, "{line}");
            } else if line.contains("\"end\"") {
                assert!(x - width >= 0.0, "{line}");
            } else {
                let column =
                    if (LEFT..RIGHT).contains(&x) && line.contains("font-size=\"11\"") { RIGHT } else { WIDTH };
                assert!(x + width <= column, "{line}");
            }
        }
        for line in picture.lines().filter(|line| line.starts_with("<rect x")) {
            assert!(numbers(line, "x") + numbers(line, "width") <= WIDTH, "{line}");
        }
    }

    #[test]
    fn names_are_text() {
        assert!(svg(&report()).contains(">&lt;&amp;></text>"));
    }

    #[test]
    fn without_figures_it_says_so() {
        let empty = Report { cores: 1, serializer: "JSON".into(), rounds: 1, protocols: vec![] };
        assert!(svg(&empty).contains("Nothing was measured."));
    }
}
