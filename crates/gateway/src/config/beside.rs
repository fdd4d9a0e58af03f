//! The pieces of a large file, read beside each other.

use std::{
    num::NonZeroUsize,
    ops::Range,
    panic::resume_unwind,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use super::{
    adapters::Adapters,
    check::Check,
    routes::{Declared, Named},
    source::FileId,
};

/// How many threads read one file.
const THREADS_MAX: usize = 8;

/// The stack of each of them, in bytes; as that of a main thread.
const STACK_BYTES: usize = 8 << 20;

/// What is in one piece.
#[derive(Debug)]
struct Piece {
    number: usize,
    named: Vec<Named>,
    routes: Vec<Declared>,
}

/// The pieces of one file, and what is known of the work on them.
struct Work<'w> {
    file: FileId,
    pieces: &'w [Range<usize>],
    next: AtomicUsize,
    torn: AtomicBool,
}

impl<'a> Check<'a> {
    /// Reads routes of a file that is in pieces; what comes of it is in the order of the file.
    pub(super) fn routes_of_pieces(
        &mut self,
        file: FileId,
        pieces: &[Range<usize>],
        adapters: &Adapters<'a>,
        named: &mut Vec<Named>,
        into: &mut Vec<Declared>,
    ) {
        let (next, torn) = (AtomicUsize::new(0), AtomicBool::new(false));
        let work = Work { file, pieces, next, torn };
        let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let others = threads.min(THREADS_MAX).min(pieces.len()).saturating_sub(1);
        let mut done = thread::scope(|scope| {
            let running: Vec<_> = (0..others)
                .filter_map(|_| {
                    let mut check = self.beside();
                    let work = &work;
                    let read = move || {
                        let done = check.read_pieces(work, adapters);
                        (check, done)
                    };
                    // Without another thread, this one reads all pieces.
                    thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, read).ok()
                })
                .collect();
            let mut done = self.read_pieces(&work, adapters);
            for thread in running {
                let (check, more) = thread.join().unwrap_or_else(|panic| resume_unwind(panic));
                self.absorb(check);
                done.extend(more);
            }
            done
        });
        self.torn |= work.torn.into_inner();
        done.sort_unstable_by_key(|piece| piece.number);
        into.reserve(done.iter().map(|piece| piece.routes.len()).sum());
        for piece in done {
            named.extend(piece.named);
            into.extend(piece.routes);
        }
    }

    /// Reads one piece after the other, as long as there are any.
    fn read_pieces(&mut self, work: &Work<'_>, adapters: &Adapters<'a>) -> Vec<Piece> {
        let mut done = Vec::new();
        while !work.torn.load(Ordering::Relaxed) {
            let number = work.next.fetch_add(1, Ordering::Relaxed);
            let Some(range) = work.pieces.get(number) else { break };
            let Some(piece) = self.read_piece(work.file, number, range, adapters) else {
                work.torn.store(true, Ordering::Relaxed);
                break;
            };
            done.push(piece);
        }
        done
    }

    /// Reads a piece, if it can be parsed.
    fn read_piece(
        &mut self,
        file: FileId,
        number: usize,
        range: &Range<usize>,
        adapters: &Adapters<'a>,
    ) -> Option<Piece> {
        let file = file.piece_at(range.start)?;
        let text = self.sources.text(file).get(..range.len())?;
        let mut root = self.parse(file, text);
        let tables = root.remove("route")?;
        if self.broken_files.contains(&file) || !root.is_empty() {
            return None;
        }
        let (mut named, mut routes) = (Vec::new(), Vec::new());
        self.routes(file, tables, adapters, &mut named, &mut routes);
        Some(Piece { number, named, routes })
    }
}
