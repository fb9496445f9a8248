//! The names in scope while a template renders: the content, assigned variables, and the variables of enclosing loops.
//!
//! An unknown name is nil, as in DotLiquid; the library's own runtime would fail.

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use liquid_core::{
    Error, Renderable, Result, Runtime,
    model::{KString, KStringCow, KStringRef, Object, ScalarCow, Value, ValueCow, ValueView, try_find},
    runtime::{PartialStore, Registers},
};

/// The outermost scope.
pub(super) struct Scope {
    globals: Object,
    assigned: RefCell<HashMap<KString, Value>>,
    counters: RefCell<HashMap<KString, Value>>,
    registers: Registers,
}

impl Scope {
    pub(super) fn new(globals: Object) -> Scope {
        Scope {
            globals,
            assigned: RefCell::default(),
            counters: RefCell::default(),
            registers: Registers::default(),
        }
    }
}

/// The value at a path inside `value`, or nil if there is none.
fn below<'v>(value: &'v dyn ValueView, path: &[ScalarCow<'_>]) -> ValueCow<'v> {
    try_find(value, path).unwrap_or(ValueCow::Owned(Value::Nil))
}

impl Runtime for Scope {
    fn partials(&self) -> &dyn PartialStore {
        &NoPartials
    }

    fn name(&self) -> Option<KStringRef<'_>> {
        None
    }

    fn roots(&self) -> BTreeSet<KStringCow<'_>> {
        BTreeSet::new()
    }

    fn try_get(&self, path: &[ScalarCow<'_>]) -> Option<ValueCow<'_>> {
        self.get(path).ok()
    }

    fn get(&self, path: &[ScalarCow<'_>]) -> Result<ValueCow<'_>> {
        let Some(first) = path.first() else { return Ok(ValueCow::Owned(Value::Nil)) };
        let name = first.to_kstr();
        for names in [&self.assigned, &self.counters] {
            if let Some(value) = names.borrow().get(name.as_str()) {
                return Ok(ValueCow::Owned(below(value, &path[1..]).into_owned()));
            }
        }
        Ok(below(&self.globals, path))
    }

    fn set_global(&self, name: KString, value: Value) -> Option<Value> {
        self.assigned.borrow_mut().insert(name, value)
    }

    fn set_index(&self, name: KString, value: Value) -> Option<Value> {
        self.counters.borrow_mut().insert(name, value)
    }

    fn get_index<'a>(&'a self, name: &str) -> Option<ValueCow<'a>> {
        self.counters.borrow().get(name).cloned().map(ValueCow::Owned)
    }

    fn registers(&self) -> &Registers {
        &self.registers
    }
}

/// The variables of one iteration of a loop, which shadow those of the enclosing scope.
pub(super) struct Iteration<'r> {
    pub(super) outer: &'r dyn Runtime,
    pub(super) variable: &'r str,
    pub(super) item: &'r Value,
    pub(super) forloop: &'r Value,
}

impl Runtime for Iteration<'_> {
    fn partials(&self) -> &dyn PartialStore {
        self.outer.partials()
    }

    fn name(&self) -> Option<KStringRef<'_>> {
        self.outer.name()
    }

    fn roots(&self) -> BTreeSet<KStringCow<'_>> {
        self.outer.roots()
    }

    fn try_get(&self, path: &[ScalarCow<'_>]) -> Option<ValueCow<'_>> {
        self.get(path).ok()
    }

    fn get(&self, path: &[ScalarCow<'_>]) -> Result<ValueCow<'_>> {
        let name = path.first().map(ScalarCow::to_kstr).unwrap_or_default();
        if name.as_str() == self.variable {
            return Ok(below(self.item, &path[1..]));
        }
        if name.as_str() == "forloop" {
            return Ok(below(self.forloop, &path[1..]));
        }
        self.outer.get(path)
    }

    fn set_global(&self, name: KString, value: Value) -> Option<Value> {
        self.outer.set_global(name, value)
    }

    fn set_index(&self, name: KString, value: Value) -> Option<Value> {
        self.outer.set_index(name, value)
    }

    fn get_index<'a>(&'a self, name: &str) -> Option<ValueCow<'a>> {
        self.outer.get_index(name)
    }

    fn registers(&self) -> &Registers {
        self.outer.registers()
    }
}

/// Templates cannot include other templates.
#[derive(Debug)]
struct NoPartials;

impl PartialStore for NoPartials {
    fn contains(&self, _: &str) -> bool {
        false
    }

    fn names(&self) -> Vec<&str> {
        Vec::new()
    }

    fn try_get(&self, _: &str) -> Option<Arc<dyn Renderable>> {
        None
    }

    fn get(&self, name: &str) -> Result<Arc<dyn Renderable>> {
        Err(Error::with_msg(format!("template '{name}' cannot be included")))
    }
}
