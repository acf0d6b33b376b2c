//! The container's `/etc/passwd`, as the child reads it: hostile bytes, one after the other, nothing allocated.

/// A line of passwd(5), byte by byte: name:password:uid:gid:comment:home:shell.
#[derive(Debug)]
pub struct Line {
    uid: u32,
    field: u32,
    number: Option<u32>,
    seen_digit: bool,
    len: usize,
}

impl Line {
    /// Looks for the line of this user.
    pub fn of(uid: u32) -> Self {
        Self { uid, field: 0, number: Some(0), seen_digit: false, len: 0 }
    }

    /// Bytes of the home directory that are in the space so far.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none so far.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes a byte; true at the end of the wanted line's home directory, which is in `space` then.
    pub fn push(&mut self, byte: u8, space: &mut [u8]) -> bool {
        let matched = self.seen_digit && self.number == Some(self.uid);
        match byte {
            b'\n' => {
                let found = matched && self.field >= 5 && self.len > 0;
                if !found {
                    *self = Self::of(self.uid);
                }
                return found;
            }
            b':' => {
                self.field += 1;
                return matched && self.field == 6 && self.len > 0;
            }
            _ => {}
        }
        match self.field {
            2 => {
                self.seen_digit = true;
                let digit = char::from(byte).to_digit(10);
                self.number = self.number.and_then(|n| n.checked_mul(10)?.checked_add(digit?));
            }
            5 => match space.get_mut(self.len) {
                Some(to) => {
                    *to = byte;
                    self.len += 1;
                }
                // Too long to be a path: not this one.
                None => self.number = None,
            },
            _ => {}
        }
        false
    }
}
