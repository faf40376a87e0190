//! Identities and roles: plain data.

use std::fmt;
use std::sync::{Arc, OnceLock};

/// Tenant of callers that belong to none.
pub const DEFAULT_TENANT: &str = "default";

/// What somebody may. Roles add up; none contains another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Runs steps and pipelines, and looks at the runs of its tenant.
    Runner,
    /// Looks at everything and changes nothing.
    Viewer,
    /// Writes policies and pipelines.
    Author,
    /// Takes a hand in what serves: targets, breakers, caches, rollouts.
    Operator,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Runner, Self::Viewer, Self::Author, Self::Operator];

    /// Its name in files and tokens.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Runner => "runner",
            Self::Viewer => "viewer",
            Self::Author => "author",
            Self::Operator => "operator",
        }
    }

    /// The role of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    const fn bit(self) -> u8 {
        match self {
            Self::Runner => 1,
            Self::Viewer => 2,
            Self::Author => 4,
            Self::Operator => 8,
        }
    }
}

/// A set of roles.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Roles(u8);

impl Roles {
    /// No role.
    pub const NONE: Self = Self(0);
    /// Every role.
    pub const ALL: Self = Self::of(&Role::ALL);

    /// The set of these.
    pub const fn of(roles: &[Role]) -> Self {
        let mut bits = 0;
        let mut index = 0;
        while index < roles.len() {
            bits |= roles[index].bit();
            index += 1;
        }
        Self(bits)
    }

    /// Whether a role is in it.
    pub const fn contains(self, role: Role) -> bool {
        self.0 & role.bit() != 0
    }

    /// Whether any role is in both.
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Those in it.
    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| self.contains(*role))
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<I: IntoIterator<Item = Role>>(roles: I) -> Self {
        Self(roles.into_iter().fold(0, |bits, role| bits | role.bit()))
    }
}

/// `author, operator`; `no role` for the empty set.
impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.iter().map(Role::name).collect();
        f.write_str(if names.is_empty() { "no role" } else { "" })?;
        f.write_str(&names.join(", "))
    }
}

impl fmt::Debug for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Who makes a call. Never taken from a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Name, for the audit log and for people.
    pub name: Arc<str>,
    /// Whose runs, keys and cached outputs the caller sees.
    pub tenant: Arc<str>,
    /// What the caller may.
    pub roles: Roles,
}

impl Identity {
    /// The caller of a server that asks nobody who they are: every role, the default tenant.
    pub fn anonymous() -> Arc<Self> {
        static ANONYMOUS: OnceLock<Arc<Identity>> = OnceLock::new();
        ANONYMOUS
            .get_or_init(|| {
                Arc::new(Self {
                    name: "anonymous".into(),
                    tenant: DEFAULT_TENANT.into(),
                    roles: Roles::ALL,
                })
            })
            .clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_a_set_with_names() {
        for role in Role::ALL {
            assert_eq!(Role::named(role.name()), Some(role));
            let only = Roles::of(&[role]);
            assert_eq!(only.iter().collect::<Vec<_>>(), [role]);
            assert_eq!(only.to_string(), role.name());
        }
        assert_eq!((Role::named("Runner"), Role::named("admin")), (None, None));
        let two: Roles = [Role::Operator, Role::Author].into_iter().collect();
        assert_eq!(two.to_string(), "author, operator");
        assert!(two.meets(Roles::of(&[Role::Author])) && !two.meets(Roles::of(&[Role::Runner])));
        assert_eq!((Roles::NONE.to_string().as_str(), Roles::ALL.iter().count()), ("no role", 4));
    }
}
