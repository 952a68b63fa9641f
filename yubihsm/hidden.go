package yubihsm

// hidden points to a secret in a way that fmt does not follow. It prints the fields of a
// struct without asking their methods where they are not exported, as in structs of our
// callers, and goes through one pointer, but not through two.
type hidden[T any] struct{ p **T }

func hide[T any](secret T) hidden[T] {
	p := &secret
	return hidden[T]{&p}
}

// get returns the secret, nil if there is none or it was wiped.
func (h hidden[T]) get() *T {
	if h.p == nil {
		return nil
	}
	return *h.p
}

// wipe overwrites the secret and takes it from all copies.
func (h hidden[T]) wipe() {
	if secret := h.get(); secret != nil {
		*secret, *h.p = *new(T), nil
	}
}
