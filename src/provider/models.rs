//! The models: rules and prices.

/// kling-3's rates in credits per second.
#[derive(Clone, Copy, Debug)]
pub struct Pricing {
    pub std_silent: u32,
    pub std_sound: u32,
    pub pro_silent: u32,
    pub pro_sound: u32,
}
