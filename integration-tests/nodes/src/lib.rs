//! The examples of the workspace's README, which compile as doc tests here: a published crate must not reach outside its
//! folder. The programs of this crate are `test-node` and `test-broker`.

#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct WorkspaceReadme;
