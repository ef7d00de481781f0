//! window
use super::{Display, Format};
use crate::Result;
use crate::frame::Frame;
/// x
pub struct DesktopWindow;
impl DesktopWindow {
    pub fn open(_f: Format) -> Result<Self> {
        Ok(Self)
    }
}
impl Display for DesktopWindow {
    fn name(&self) -> &str {
        "window"
    }
    fn present(&mut self, _: &Frame) -> Result<()> {
        Ok(())
    }
}
