//! One error type for the library: what failed, what a caller can do about it, and one line a person can act on.

use std::fmt;

/// The area that failed. It decides the exit code of the programs and what a caller can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// A flag, environment variable or configuration file is wrong: fix it.
    Usage,
    /// A model bundle is missing, damaged or contradicts itself: fix the bundle.
    Model,
    /// A source cannot be opened or its content is broken: fix the file or the URI.
    Source,
    /// A source that worked has gone away: reopen it, later if need be.
    SourceLost,
    /// A display cannot be opened or drawn to.
    Display,
    /// Output cannot be written: disk full, folder missing, no permission.
    Output,
    /// An engine cannot run the model as asked, or its device failed.
    Engine,
    /// A defect of ours.
    Internal,
}

impl ErrorKind {
    /// The exit code of the programs for an error of this kind (0 is success).
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Internal => 1,
            Self::Usage => 2,
            Self::Model => 3,
            Self::Source | Self::SourceLost => 4,
            Self::Display => 5,
            Self::Output => 6,
            Self::Engine => 7,
        }
    }

    /// Whether trying the same again later can help.
    pub fn can_retry(self) -> bool {
        matches!(self, Self::SourceLost)
    }
}

/// An error of the library: its kind and one line that names what failed, where, and the remedy if there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

/// Result with the library's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind`; line breaks in `message` become spaces, so that it stays one line.
    pub fn new(kind: ErrorKind, message: impl fmt::Display) -> Self {
        let message = message.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        Self { kind, message }
    }

    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The same error with `what: ` before its message.
    pub fn within(self, what: impl fmt::Display) -> Self {
        Self::new(self.kind, format_args!("{what}: {}", self.message))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line() {
        let error = Error::new(ErrorKind::Source, "clip.mp4: broken\n  header").within("opening");
        assert_eq!(error.to_string(), "opening: clip.mp4: broken header");
        assert_eq!(error.kind().exit_code(), 4);
    }

    #[test]
    fn exit_codes_are_the_documented_ones() {
        use ErrorKind::*;
        let codes = [Internal, Usage, Model, Source, Display, Output, Engine].map(ErrorKind::exit_code);
        assert_eq!(codes, [1, 2, 3, 4, 5, 6, 7]);
        assert!(SourceLost.can_retry() && !Source.can_retry());
    }
}
