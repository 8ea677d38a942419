//! The view on a real terminal: an alternate screen, restored however the demo ends.

use super::progress::Watch;
use super::view;
use anyhow::{Context, Result};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use std::time::Duration;

/// Time between two drawings.
const FRAME: Duration = Duration::from_secs(1);

/// Draws until Ctrl-C or `q`.
pub fn run(watch: &mut Watch) -> Result<()> {
    let mut terminal = ratatui::try_init().context("the terminal cannot be drawn on")?;
    let outcome = draw_until_quit(&mut terminal, watch);
    ratatui::restore();
    outcome
}

fn draw_until_quit(terminal: &mut ratatui::DefaultTerminal, watch: &mut Watch) -> Result<()> {
    loop {
        let progress = watch.look();
        terminal.draw(|frame| view::draw(frame, &progress))?;
        if event::poll(FRAME)?
            && let Event::Key(key) = event::read()?
        {
            let interrupted = key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c');
            if interrupted || key.code == KeyCode::Char('q') {
                return Ok(());
            }
        }
    }
}
