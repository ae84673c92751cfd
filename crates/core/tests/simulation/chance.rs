//! Random draws that depend on the seed and on their occasion, not on the number of draws before: a scenario with fewer
//! actions meets much the same faults as the whole.

/// Random draws for one occasion.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64, occasion: [u64; 4]) -> Self {
        Self(occasion.into_iter().fold(seed, |state, part| mix(state ^ part)))
    }

    /// Returns the next draw, below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = mix(self.0);
        self.0 % bound
    }

    /// Returns `true` with this probability, in thousandths.
    pub(crate) fn happens(&mut self, per_thousand: u64) -> bool {
        per_thousand > 0 && self.below(1000) < per_thousand
    }
}

/// The finalizer of SplitMix64.
fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
