//! The view on a real terminal: an alternate screen, restored however the demo ends.

use super::progress::Watch;
use super::view;
use anyhow::{Context, Result};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Time between two drawings.
const FRAME: Duration = Duration::from_secs(1);
/// Longest time before a signal is seen.
const LOOK: Duration = Duration::from_millis(100);

/// Draws until Ctrl-C or `q`, or until `given_up` is set.
pub fn run(watch: &mut Watch, given_up: &AtomicBool) -> Result<()> {
    let mut terminal = ratatui::try_init().context("the terminal cannot be drawn on")?;
    let outcome = draw_until_quit(&mut terminal, watch, given_up);
    ratatui::restore();
    outcome
}

fn draw_until_quit(terminal: &mut ratatui::DefaultTerminal, watch: &mut Watch, given_up: &AtomicBool) -> Result<()> {
    let mut next_frame = Instant::now();
    while !given_up.load(Ordering::Relaxed) {
        if Instant::now() >= next_frame {
            next_frame = Instant::now() + FRAME;
            let progress = watch.look();
            terminal.draw(|frame| view::draw(frame, &progress))?;
        }
        if !event::poll(LOOK)? {
            continue;
        }
        match event::read()? {
            Event::Key(key) => {
                let interrupted = key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c');
                if interrupted || key.code == KeyCode::Char('q') {
                    return Ok(());
                }
            }
            Event::Resize(..) => next_frame = Instant::now(),
            _ => {}
        }
    }
    Ok(())
}
