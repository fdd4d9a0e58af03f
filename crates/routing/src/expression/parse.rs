//! From a text to the tree of the library, and what is refused on the way.

use std::{ops::Range, panic::catch_unwind};

use cel::parser::{
    ParseErrors, PrattParser,
    pratt_parser::{Lexer, Token, TokenKind},
};

use super::{DEPTH_MAX, EXPRESSION_BYTES_MAX, Tree};
use crate::SyntaxError;

pub(super) fn tree(text: &str) -> Result<Tree, SyntaxError> {
    let whole = 0..text.len();
    if text.trim().is_empty() {
        return Err(SyntaxError::new(whole, "the expression is empty")
            .help("write what must be true, such as `payload.temperature > 30`"));
    }
    if text.len() > EXPRESSION_BYTES_MAX {
        let message = format!(
            "an expression has at most {EXPRESSION_BYTES_MAX} bytes, and this has {}",
            text.len()
        );
        return Err(SyntaxError::new(whole, message));
    }
    // The parser is no work of ours and reads what people write: should it ever panic, then that
    // is an error of this expression and of nothing else.
    let parsed = catch_unwind(|| PrattParser::new().max_recursion_depth(DEPTH_MAX).parse(text));
    match parsed {
        Ok(Ok(tree)) => Ok(tree),
        Ok(Err(errors)) => Err(first(text, &errors)),
        Err(_) => Err(SyntaxError::new(whole, "the expression cannot be read")),
    }
}

/// The first error at its place; the parser's later ones often come of it.
fn first(text: &str, errors: &ParseErrors) -> SyntaxError {
    let Some(error) = errors.errors.first() else {
        return SyntaxError::new(0..text.len(), "the expression cannot be read");
    };
    let message = error.msg.trim_start_matches("Syntax error: ");
    let message = message.replace("<EOF>", "the end").replace('\'', "`");
    let range = match offset(text, error.pos) {
        Some(start) => token_at(text, start),
        None => 0..text.len(),
    };
    let error = SyntaxError::new(range.clone(), message);
    match text.get(range) {
        Some("=") => error.help("write `==` to compare"),
        Some("and" | "AND") => error.help("write `&&`"),
        Some("or" | "OR") => error.help("write `||`"),
        _ => error,
    }
}

/// The byte at a line and a column, both counted from 1; columns count bytes.
fn offset(text: &str, (line, column): (isize, isize)) -> Option<usize> {
    let line = usize::try_from(line).ok()?.checked_sub(1)?;
    let column = usize::try_from(column).ok()?.checked_sub(1)?;
    let before: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    let mut at = (before + column).min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    Some(at)
}

/// The tokens of a text, without white space and comments.
fn tokens(text: &str) -> impl Iterator<Item = Token> + '_ {
    let mut lexer = Lexer::new(text);
    let mut ended = false;
    std::iter::from_fn(move || {
        if ended {
            return None;
        }
        let token = lexer.lex();
        ended = matches!(token.kind, TokenKind::TokEnd | TokenKind::TokError);
        (!ended).then_some(token)
    })
    .filter(|token| !matches!(token.kind, TokenKind::TokWhitespace | TokenKind::TokComment))
}

fn token_at(text: &str, start: usize) -> Range<usize> {
    let found = tokens(text).find(|token| token.start <= start && start < token.end);
    let range = found.map(|token| token.start..token.end);
    range.filter(|range| text.get(range.clone()).is_some()).unwrap_or(start..start)
}

/// Where a name stands that is read (or called) here, and is not a field of something; the whole
/// text where it is not found.
pub(super) fn place_of(text: &str, name: &str, called: bool, field: bool) -> Range<usize> {
    let all: Vec<Token> = tokens(text).collect();
    let found = all.iter().enumerate().find(|(number, token)| {
        let before = number.checked_sub(1).and_then(|before| all.get(before));
        let after = all.get(number + 1);
        let behind_dot = before.is_some_and(|before| before.kind == TokenKind::TokDot);
        let before_bracket = after.is_some_and(|after| after.kind == TokenKind::TokLeftParen);
        text.get(token.start..token.end) == Some(name)
            && behind_dot == field
            && before_bracket == called
    });
    found.map_or(0..text.len(), |(_, token)| token.start..token.end)
}

/// An expression in the braces of a template.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Without the white space around it.
    pub(crate) expression: Range<usize>,
    /// What stands behind a single `|`, which is no operator of the language.
    pub(crate) default: Option<Range<usize>>,
    /// The place behind the closing brace.
    pub(crate) end: usize,
}

/// Finds the end of an expression that stands behind an opening brace: at the brace that closes
/// it, or at a `|` with a default. `None` where it is not closed.
pub(crate) fn embedded(text: &str) -> Option<Found> {
    let mut lexer = Lexer::new(text);
    let mut open = 0_usize;
    loop {
        let token = lexer.lex();
        match token.kind {
            TokenKind::TokLeftBrace => open += 1,
            TokenKind::TokRightBrace if open > 0 => open -= 1,
            TokenKind::TokRightBrace => {
                return Some(Found {
                    expression: trimmed(text, token.start),
                    default: None,
                    end: token.end,
                });
            }
            TokenKind::TokError if text.get(token.start..)?.starts_with('|') => {
                let start = token.start + 1;
                let end = start + text.get(start..)?.find(['}', '{'])?;
                let closed = text.get(end..)?.starts_with('}');
                return closed.then(|| Found {
                    expression: trimmed(text, token.start),
                    default: Some(start..end),
                    end: end + 1,
                });
            }
            TokenKind::TokEnd | TokenKind::TokError => return None,
            _ => {}
        }
    }
}

fn trimmed(text: &str, end: usize) -> Range<usize> {
    let part = text.get(..end).unwrap_or_default();
    let start = part.len() - part.trim_start().len();
    start..start.max(part.trim_end().len())
}
