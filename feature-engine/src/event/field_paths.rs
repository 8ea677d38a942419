//! The paths that a plan needs out of an event, as a tree that the scanner walks along with the document.

use crate::slot::{Register, Slot};

#[derive(Clone, Debug, Default)]
pub(crate) struct FieldPaths {
    nodes: Vec<PathNode>,
}

#[derive(Clone, Debug, Default)]
struct PathNode {
    /// Members of the object here, each with its node.
    members: Vec<(Box<str>, u32)>,
    /// Where this value goes.
    register: Option<Register>,
    /// Registers of everything below, which are void when this member comes again.
    below: Vec<Register>,
}

impl FieldPaths {
    /// The tree with nothing but the document itself.
    pub fn new() -> FieldPaths {
        FieldPaths {
            nodes: vec![PathNode::default()],
        }
    }

    /// The register of a path, if it is in the tree.
    pub fn register(&self, path: &[&str]) -> Option<Register> {
        let mut node = 0;
        for name in path {
            node = self.member(node, name.as_bytes())?;
        }
        self.nodes.get(node as usize)?.register
    }

    /// Puts a path into the tree.
    pub fn insert(&mut self, path: &[&str], register: Register) {
        let mut at = 0;
        for name in path {
            if let Some(node) = self.nodes.get_mut(at as usize) {
                node.below.push(register);
            }
            at = match self.member(at, name.as_bytes()) {
                Some(next) => next,
                None => {
                    let next = self.nodes.len() as u32;
                    self.nodes.push(PathNode::default());
                    if let Some(node) = self.nodes.get_mut(at as usize) {
                        node.members.push(((*name).into(), next));
                    }
                    next
                }
            };
        }
        if let Some(node) = self.nodes.get_mut(at as usize) {
            node.register = Some(register);
        }
    }

    /// Every register of the tree.
    pub fn registers(&self) -> impl Iterator<Item = Register> + '_ {
        self.nodes.iter().filter_map(|node| node.register)
    }

    /// The node of a member of `node`.
    #[inline]
    pub fn member(&self, node: u32, name: &[u8]) -> Option<u32> {
        let members = &self.nodes.get(node as usize)?.members;
        members
            .iter()
            .find(|(member, _)| member.as_bytes() == name)
            .map(|(_, node)| *node)
    }

    /// Sets the value at `node`; what an earlier member of the same name left below is void.
    #[inline]
    pub fn set(&self, node: u32, value: Slot, registers: &mut [Slot]) {
        let Some(node) = self.nodes.get(node as usize) else {
            return;
        };
        let all = node.below.iter().copied().map(|register| (register, Slot::Missing));
        for (register, value) in all.chain(node.register.map(|register| (register, value))) {
            if let Some(slot) = registers.get_mut(register as usize) {
                *slot = value;
            }
        }
    }

    /// Whether the value at `node` itself is wanted.
    #[inline]
    pub fn is_wanted(&self, node: u32) -> bool {
        self.nodes
            .get(node as usize)
            .is_some_and(|node| node.register.is_some())
    }
}
