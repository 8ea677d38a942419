//! What a person sees while the demo runs: one screen, drawn once a second, only on a terminal.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Gauge, Paragraph, Row, Table};
use std::time::Duration;

/// Everything on the screen.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// since the replay began
    pub elapsed: Duration,
    /// events that went through the inference sink
    pub events_in: u64,
    /// events that there are
    pub events_total: u64,
    /// events per second, over the last second
    pub events_per_second: f64,
    /// a row for each tenant
    pub tenants: Vec<TenantRow>,
    /// name, entries
    pub stores: Vec<(String, u64)>,
    /// entries in the archive
    pub archived: u64,
    /// dead-lettered events
    pub dead_lettered: u64,
    /// URL of the worker
    pub worker: String,
    /// what the broker listens on
    pub bootstrap: String,
}

/// A tenant's row.
#[derive(Debug, Clone, Default)]
pub struct TenantRow {
    /// tenant
    pub name: String,
    /// predictions per second, over the last second
    pub predictions_per_second: f64,
    /// predictions so far
    pub predictions: u64,
    /// event to prediction, milliseconds
    pub p50_ms: f64,
    /// event to prediction, milliseconds
    pub p99_ms: f64,
    /// events that its models have not seen yet
    pub lag: u64,
    /// share of the inference CPU, 0 to 1
    pub cpu_share: f64,
    /// events shed
    pub shed: u64,
}

/// Draws the screen.
pub fn draw(frame: &mut Frame<'_>, progress: &Progress) {
    let tenants = u16::try_from(progress.tenants.len()).unwrap_or(20);
    let [head, table, stores, hints, _] = Layout::vertical([
        Constraint::Length(3),
        Constraint::Length(tenants.saturating_add(3)),
        Constraint::Length(3),
        Constraint::Length(9),
        Constraint::Min(0),
    ])
    .areas(frame.area());
    draw_head(frame, head, progress);
    draw_tenants(frame, table, progress);
    draw_stores(frame, stores, progress);
    draw_hints(frame, hints, progress);
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, progress: &Progress) {
    let ratio = match progress.events_total {
        0 => 0.0,
        total => (progress.events_in as f64 / total as f64).clamp(0.0, 1.0),
    };
    let label = format!(
        "{} of {} events   {}/s   {:.0} s",
        grouped(progress.events_in),
        grouped(progress.events_total),
        grouped(progress.events_per_second as u64),
        progress.elapsed.as_secs_f64()
    );
    let gauge = Gauge::default()
        .block(
            Block::default()
                .borders(Borders::ALL)
                .title(" millrace demo: a year of groceries "),
        )
        .gauge_style(Style::default().fg(Color::Blue))
        .ratio(ratio)
        .label(label);
    frame.render_widget(gauge, area);
}

fn draw_tenants(frame: &mut Frame<'_>, area: Rect, progress: &Progress) {
    let header = Row::new([
        "tenant",
        "predictions/s",
        "predictions",
        "p50 ms",
        "p99 ms",
        "lag",
        "CPU",
        "shed",
    ])
    .style(Style::default().add_modifier(Modifier::BOLD));
    let rows = progress.tenants.iter().map(|tenant| {
        let behind = if tenant.lag > 5_000 {
            Style::default().fg(Color::Yellow)
        } else {
            Style::default()
        };
        let shed = if tenant.shed > 0 {
            Style::default().fg(Color::Red)
        } else {
            Style::default()
        };
        Row::new([
            Cell::from(tenant.name.clone()),
            Cell::from(grouped(tenant.predictions_per_second as u64)),
            Cell::from(grouped(tenant.predictions)),
            Cell::from(format!("{:.1}", tenant.p50_ms)),
            Cell::from(format!("{:.1}", tenant.p99_ms)),
            Cell::from(grouped(tenant.lag)).style(behind),
            Cell::from(format!("{:.0} %", tenant.cpu_share * 100.0)),
            Cell::from(grouped(tenant.shed)).style(shed),
        ])
    });
    let widths = [18, 14, 12, 9, 9, 10, 7, 10].map(Constraint::Length);
    let table = Table::new(rows, widths)
        .header(header)
        .block(Block::default().borders(Borders::ALL).title(" tenants "));
    frame.render_widget(table, area);
}

fn draw_stores(frame: &mut Frame<'_>, area: Rect, progress: &Progress) {
    let mut spans: Vec<Span<'_>> = Vec::new();
    for (name, entries) in &progress.stores {
        spans.push(Span::raw(format!("{name} {}   ", grouped(*entries))));
    }
    spans.push(Span::styled(
        format!("archived {}   ", grouped(progress.archived)),
        Style::default().fg(Color::Green),
    ));
    spans.push(Span::raw(format!("dead letters {}", grouped(progress.dead_lettered))));
    let paragraph =
        Paragraph::new(Line::from(spans)).block(Block::default().borders(Borders::ALL).title(" stores (entries) "));
    frame.render_widget(paragraph, area);
}

fn draw_hints(frame: &mut Frame<'_>, area: Rect, progress: &Progress) {
    let worker = &progress.worker;
    let lines: Vec<Line<'_>> = [
        format!("curl {worker}/connectors?expand=status"),
        format!("curl {worker}/inference/stores/products/keys/874972"),
        format!("curl {worker}/inference/fairness"),
        format!("curl {worker}/inference/models/personalization/reorder/status"),
        format!("curl -X PUT {worker}/connectors/purchases/pause"),
        format!(
            "kcat -b {} -C -t predictions.personalization -o end",
            progress.bootstrap
        ),
        "Ctrl-C stops; started again on the same directory, it goes on where it was".to_owned(),
    ]
    .into_iter()
    .map(Line::from)
    .collect();
    frame.render_widget(
        Paragraph::new(lines).block(Block::default().borders(Borders::ALL).title(" try ")),
        area,
    );
}

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn screen(progress: &Progress) -> String {
        let mut terminal = Terminal::new(TestBackend::new(110, 30)).unwrap();
        terminal.draw(|frame| draw(frame, progress)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        buffer
            .content()
            .chunks(110)
            .map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>() + "\n")
            .collect()
    }

    #[test]
    fn the_screen_shows_progress_tenants_stores_and_what_to_try() {
        let progress = Progress {
            events_in: 80_051,
            events_total: 160_102,
            events_per_second: 41_234.5,
            tenants: vec![TenantRow {
                name: "trial".to_owned(),
                predictions: 12_000,
                shed: 1_234,
                cpu_share: 0.25,
                ..TenantRow::default()
            }],
            stores: vec![("products".to_owned(), 27_008)],
            archived: 512,
            worker: "http://127.0.0.1:8083".to_owned(),
            ..Progress::default()
        };
        let screen = screen(&progress);
        for text in [
            "80,051 of 160,102 events",
            "41,234/s",
            "trial",
            "1,234",
            "25 %",
            "products 27,008",
            "archived 512",
            "curl http://127.0.0.1:8083/",
        ] {
            assert!(screen.contains(text), "{text} is not on\n{screen}");
        }
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(grouped(1_469_307), "1,469,307");
    }
}
