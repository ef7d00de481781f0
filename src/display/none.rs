//! The display `none`: shows nothing, so that nothing is composed. For headless runs that want events only.

use super::Display;
use crate::Result;
use crate::frame::Frame;

/// No display at all.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nothing;

impl Display for Nothing {
    fn name(&self) -> &str {
        "none"
    }

    fn shows(&self) -> bool {
        false
    }

    fn present(&mut self, _frame: &Frame) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::display::Wish;

    #[test]
    fn it_shows_nothing_and_never_fails() {
        let mut display = Nothing;
        assert!(!display.shows());
        display.present(&Frame::new(4, 4)).unwrap();
        assert_eq!(display.poll().unwrap(), Wish::Continue);
        display.finish().unwrap();
    }
}
