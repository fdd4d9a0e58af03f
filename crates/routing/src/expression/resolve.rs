//! Which names an expression uses: each path that is known beforehand becomes a variable of its
//! own, so that evaluating reads what the paths lead to and nothing else.
//!
//! `payload.a.b` becomes `@0`, and `has(payload.a.b)` becomes `@?0`; no expression can write such
//! names. Names that a macro binds, as in `payload.list.exists(id, id > 3)`, stay.

use cel::common::ast::{
    ComprehensionExpr, EntryExpr, Expr, ListExpr, LiteralValue, MapExpr, SelectExpr, operators,
};
use transload_envelope::Text;

use super::{
    COMPREHENSIONS_NESTED_MAX, DEPTH_MAX, Tree, functions,
    operand::{Operand, Root, Segment},
    parse::place_of,
};
use crate::{Property, SyntaxError};

/// A tree whose paths are variables, and the paths by their numbers.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) tree: Tree,
    pub(super) operands: Vec<Operand>,
}

pub(super) fn resolve(text: &str, tree: Tree) -> Result<Resolved, SyntaxError> {
    let mut resolver = Resolver { text, operands: Vec::new(), bound: Vec::new(), nested: 0 };
    let tree = resolver.tree(tree, 0)?;
    Ok(Resolved { tree, operands: resolver.operands })
}

/// The name of the variable for the value at a path.
fn variable(number: usize) -> String {
    format!("@{number}")
}

/// The name of the variable that tells whether there is a value.
fn presence(number: usize) -> String {
    format!("@?{number}")
}

/// What a name that was made here stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variable {
    Value(usize),
    Presence(usize),
}

impl Variable {
    pub(super) fn named(name: &str) -> Option<Self> {
        let name = name.strip_prefix('@')?;
        match name.strip_prefix('?') {
            Some(number) => number.parse().ok().map(Self::Presence),
            None => name.parse().ok().map(Self::Value),
        }
    }
}

struct Resolver<'a> {
    text: &'a str,
    operands: Vec<Operand>,
    /// Names that macros have bound here.
    bound: Vec<String>,
    /// How many macros that walk a list we are in.
    nested: usize,
}

impl Resolver<'_> {
    fn tree(&mut self, tree: Tree, depth: usize) -> Result<Tree, SyntaxError> {
        if depth > usize::from(DEPTH_MAX) {
            let message = format!("an expression is at most {DEPTH_MAX} levels deep");
            return Err(SyntaxError::new(0..self.text.len(), message));
        }
        if let Some(operand) = self.operand(&tree)? {
            let number = self.number(operand);
            return Ok(Tree { id: tree.id, expr: Expr::Ident(variable(number)) });
        }
        let expr = match tree.expr {
            Expr::Ident(name) => self.ident(name)?,
            Expr::Select(select) => self.select(select, depth + 1)?,
            Expr::Call(call) => self.call(call, depth + 1)?,
            Expr::List(list) => Expr::List(ListExpr {
                elements: self.all(list.elements, depth + 1)?,
                optional_indices: list.optional_indices,
            }),
            Expr::Map(map) => self.map(map, depth + 1)?,
            Expr::Comprehension(walk) => {
                Expr::Comprehension(Box::new(self.comprehension(*walk, depth + 1)?))
            }
            Expr::Literal(literal) => Expr::Literal(literal),
            Expr::Struct(_) | Expr::Unspecified => {
                let message = "messages of a named type are not known here";
                return Err(SyntaxError::new(0..self.text.len(), message)
                    .help("write a map, such as `{\"key\": value}`"));
            }
        };
        Ok(Tree { id: tree.id, expr })
    }

    fn all(&mut self, trees: Vec<Tree>, depth: usize) -> Result<Vec<Tree>, SyntaxError> {
        trees.into_iter().map(|tree| self.tree(tree, depth)).collect()
    }

    fn number(&mut self, operand: Operand) -> usize {
        let known = self.operands.iter().position(|known| *known == operand);
        known.unwrap_or_else(|| {
            self.operands.push(operand);
            self.operands.len() - 1
        })
    }

    /// The path that a tree is, if it is one from a root.
    fn operand(&self, tree: &Tree) -> Result<Option<Operand>, SyntaxError> {
        let mut segments = Vec::new();
        let mut at = tree;
        let root = loop {
            match &at.expr {
                Expr::Ident(name) => match Root::named(name) {
                    Some(root) if !self.bound.contains(name) => break root,
                    _ => return Ok(None),
                },
                Expr::Select(select) if !select.test => {
                    segments.push(Segment::Key(select.field.as_str().into()));
                    at = &select.operand;
                }
                Expr::Call(call) if call.func_name == operators::INDEX => {
                    let [inner, index] = call.args.as_slice() else { return Ok(None) };
                    let Some(segment) = constant_segment(index) else { return Ok(None) };
                    segments.push(segment);
                    at = inner;
                }
                _ => return Ok(None),
            }
        };
        segments.reverse();
        let operand = Operand { root, segments: segments.into_boxed_slice() };
        self.check(&operand)?;
        Ok(Some(operand))
    }

    /// Looks for fields that no message can have.
    fn check(&self, operand: &Operand) -> Result<(), SyntaxError> {
        let Some(Segment::Key(first)) = operand.segments.first() else { return Ok(()) };
        let place = || place_of(self.text, first, false, true);
        if !operand.root.has_fields() {
            let root = Operand { root: operand.root, segments: Box::default() }.text();
            return Err(SyntaxError::new(place(), format!("`{root}` has no fields")));
        }
        let known = |name: &str| Property::ALL.iter().any(|(known, _)| *known == name);
        if operand.root == Root::Properties && !known(first) {
            let all: Vec<_> = Property::ALL.iter().map(|(known, _)| *known).collect();
            return Err(SyntaxError::new(place(), format!("there is no property `{first}`"))
                .help(format!("the properties are {}", all.join(", "))));
        }
        Ok(())
    }

    fn ident(&self, name: String) -> Result<Expr, SyntaxError> {
        let known = self.bound.contains(&name)
            || name.starts_with('@')
            || functions::TYPES.contains(&name.as_str());
        if known {
            return Ok(Expr::Ident(name));
        }
        let roots: Vec<_> = Root::ALL.iter().map(|(known, _)| *known).collect();
        let error = SyntaxError::new(
            place_of(self.text, &name, false, false),
            format!("there is nothing named `{name}` here"),
        );
        Err(error.help(match name.as_str() {
            "header" => "write `headers.NAME`".to_owned(),
            "property" => "write `properties.NAME`".to_owned(),
            "attribute" => "write `source.NAME`".to_owned(),
            _ => format!("there are {}; a text stands in quotes", roots.join(", ")),
        }))
    }

    fn select(&mut self, select: SelectExpr, depth: usize) -> Result<Expr, SyntaxError> {
        if select.test {
            let field =
                Tree { id: 0, expr: Expr::Select(SelectExpr { test: false, ..select.clone() }) };
            if let Some(operand) = self.operand(&field)? {
                return Ok(Expr::Ident(presence(self.number(operand))));
            }
        }
        let operand = Box::new(self.tree(*select.operand, depth)?);
        Ok(Expr::Select(SelectExpr { operand, ..select }))
    }

    fn call(
        &mut self,
        mut call: cel::common::ast::CallExpr,
        depth: usize,
    ) -> Result<Expr, SyntaxError> {
        if let Some(target) = &call.target
            && let Expr::Ident(namespace) = &target.expr
            && functions::QUALIFIED.contains(&&*format!("{namespace}.{}", call.func_name))
        {
            call.args = self.all(call.args, depth)?;
            return Ok(Expr::Call(call));
        }
        self.check_function(&call)?;
        if let Some(target) = call.target.take() {
            call.target = Some(Box::new(self.tree(*target, depth)?));
        }
        call.args = self.all(call.args, depth)?;
        // A list that a macro makes grows by the language's own operator, which the library knows.
        let grows = matches!(
            call.args.first().map(|first| &first.expr),
            Some(Expr::Ident(name)) if name.starts_with('@') && Variable::named(name).is_none()
        );
        let ours = functions::ARITHMETIC.iter().find(|(sign, _)| *sign == call.func_name);
        if let (Some((_, ours)), false) = (ours, grows) {
            (*ours).clone_into(&mut call.func_name);
        }
        Ok(Expr::Call(call))
    }

    fn check_function(&self, call: &cel::common::ast::CallExpr) -> Result<(), SyntaxError> {
        let name = call.func_name.as_str();
        let operator = name.starts_with(['_', '!', '-', '@'])
            && !name.ends_with(char::is_alphanumeric)
            || name == operators::IN
            || name == operators::NOT_STRICTLY_FALSE;
        let known = match call.target {
            _ if operator => true,
            None => functions::GLOBAL.contains(&name),
            Some(_) => functions::MEMBERS.contains(&name),
        };
        if known {
            return Ok(());
        }
        let place = place_of(self.text, name, true, call.target.is_some());
        let (message, help) = if functions::MACROS.contains(&name) {
            let help = match name {
                "has" => "write `has(payload.field)`".to_owned(),
                _ => format!("write `list.{name}(x, …)`, with a name and an expression"),
            };
            (format!("`{name}` is not used like this"), help)
        } else if call.target.is_none() && functions::MEMBERS.contains(&name) {
            (format!("`{name}` is called on a value"), format!("write `value.{name}(…)`"))
        } else {
            let known = match call.target {
                None => functions::GLOBAL,
                Some(_) => functions::MEMBERS,
            };
            (format!("there is no function `{name}`"), format!("there are {}", known.join(", ")))
        };
        Err(SyntaxError::new(place, message).help(help))
    }

    fn map(&mut self, mut map: MapExpr, depth: usize) -> Result<Expr, SyntaxError> {
        for entry in &mut map.entries {
            let EntryExpr::MapEntry(inner) = &mut entry.expr else {
                let message = "messages of a named type are not known here";
                return Err(SyntaxError::new(0..self.text.len(), message));
            };
            inner.key = self.tree(std::mem::take(&mut inner.key), depth)?;
            inner.value = self.tree(std::mem::take(&mut inner.value), depth)?;
        }
        Ok(Expr::Map(map))
    }

    fn comprehension(
        &mut self,
        walk: ComprehensionExpr,
        depth: usize,
    ) -> Result<ComprehensionExpr, SyntaxError> {
        if self.nested == COMPREHENSIONS_NESTED_MAX {
            let message = format!(
                "at most {COMPREHENSIONS_NESTED_MAX} walks through lists can stand inside each \
                 other"
            );
            return Err(SyntaxError::new(0..self.text.len(), message));
        }
        let iter_range = self.tree(walk.iter_range, depth)?;
        let accu_init = self.tree(walk.accu_init, depth)?;
        let before = self.bound.len();
        self.bound.push(walk.iter_var.clone());
        self.bound.extend(walk.iter_var2.clone());
        self.nested += 1;
        let loop_cond = self.tree(walk.loop_cond, depth)?;
        let loop_step = self.tree(walk.loop_step, depth)?;
        self.nested -= 1;
        self.bound.truncate(before);
        let result = self.tree(walk.result, depth)?;
        Ok(ComprehensionExpr {
            iter_range,
            accu_init,
            loop_cond,
            loop_step,
            result,
            iter_var: walk.iter_var,
            iter_var2: walk.iter_var2,
            accu_var: walk.accu_var,
        })
    }
}

/// The step of a path that a constant between brackets is.
fn constant_segment(index: &Tree) -> Option<Segment> {
    match &index.expr {
        Expr::Literal(LiteralValue::String(key)) => Some(Segment::Key(Text::from(key.inner()))),
        Expr::Literal(LiteralValue::Int(number)) => {
            usize::try_from(*number.inner()).ok().map(Segment::Element)
        }
        _ => None,
    }
}
