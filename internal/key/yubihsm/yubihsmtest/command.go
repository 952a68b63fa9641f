package yubihsmtest

import "errors"

// handler does a command.
type handler struct {
	needs Capabilities // of the session
	run   func(*call) ([]byte, error)
}

// plainCommands are done outside of a session.
var plainCommands = map[byte]handler{
	Echo:                {0, (*call).echo},
	CreateSession:       {0, (*call).createSession},
	AuthenticateSession: {0, (*call).authenticate},
	GetDeviceInfo:       {0, (*call).info},
}

// sessionCommands are done inside of one.
var sessionCommands = map[byte]handler{
	Echo:                 {0, (*call).echo},
	GetDeviceInfo:        {0, (*call).info},
	ResetDevice:          {CanReset, (*call).resetDevice},
	CloseSession:         {0, (*call).closeSession},
	GetStorageInfo:       {0, (*call).storage},
	PutOpaque:            {CanPutOpaque, (*call).putOpaque},
	GetOpaque:            {CanGetOpaque, (*call).getOpaque},
	PutAuthenticationKey: {CanPutAuthenticationKey, (*call).putAuthenticationKey},
	PutAsymmetricKey:     {CanPutAsymmetric, (*call).putAsymmetric},
	GenerateAsymmetric:   {CanGenerateAsymmetric, (*call).generateAsymmetric},
	ListObjects:          {0, (*call).listObjects},
	ExportWrapped:        {CanExportWrapped, (*call).exportWrapped},
	ImportWrapped:        {CanImportWrapped, (*call).importWrapped},
	PutWrapKey:           {CanPutWrapKey, (*call).putWrapKey},
	GetLogEntries:        {CanGetLog, (*call).logEntries},
	GetObjectInfo:        {0, (*call).objectInfo},
	SetOption:            {CanSetOption, (*call).setOption},
	GetOption:            {CanGetOption, (*call).getOption},
	GetPseudoRandom:      {CanGetRandom, (*call).pseudoRandom},
	PutHMACKey:           {CanPutHMAC, (*call).putHMACKey},
	SignHMAC:             {CanSignHMAC, (*call).signHMAC},
	GetPublicKey:         {0, (*call).publicKey},
	SignECDSA:            {CanSignECDSA, (*call).signECDSA},
	DeleteObject:         {0, (*call).deleteObject}, // which capability depends on the type
	GenerateHMACKey:      {CanGenerateHMAC, (*call).generateHMACKey},
	GenerateWrapKey:      {CanGenerateWrapKey, (*call).generateWrapKey},
	VerifyHMAC:           {CanVerifyHMAC, (*call).verifyHMAC},
	SignAttestation:      {CanAttest, (*call).attest},
	SetLogIndex:          {CanGetLog, (*call).setLogIndex},
	WrapData:             {CanWrapData, (*call).wrapData},
	UnwrapData:           {CanUnwrapData, (*call).unwrapData},
	SignEdDSA:            {CanSignEdDSA, (*call).signEdDSA},
	BlinkDevice:          {0, (*call).blink},
	ChangeAuthKey:        {CanChangeAuthKey, (*call).changeAuthKey},
}

// do has the device execute a command and returns the answer.
func (c *call) do(handlers map[byte]handler) []byte {
	c.target, c.second = 0xffff, 0xffff
	out, err := c.execute(handlers)
	if c.command == ResetDevice && err == nil {
		return frame(c.command | reply) // the log is new
	}
	if code := Code(0); errors.As(err, &code) {
		c.note(byte(code))
		return errorFrame(code)
	}
	c.note(c.command | reply)
	return frame(c.command|reply, out)
}

func (c *call) execute(handlers map[byte]handler) ([]byte, error) {
	h, known := handlers[c.command]
	switch {
	case !known:
		return nil, InvalidCommand
	case c.s != nil && !c.s.can.has(h.needs):
		return nil, InsufficientPermissions
	case c.d.log.refuses(c.command):
		return nil, LogFull
	}
	out, err := h.run(c)
	if code := Code(0); err != nil && !errors.As(err, &code) {
		panic(err) // of the simulator, not of the device
	}
	return out, err
}

// reception is a message as far as the device has read it.
type reception struct {
	call   *call
	chain  []byte // the session's next MAC chain
	answer []byte // the answer, if nothing is left to do
}

// receive reads a message and changes nothing yet.
func (d *Device) receive(message []byte) reception {
	d.expire()
	command, data, ok := parse(message)
	if !ok || len(message) > d.bufferSize()-1 {
		return reception{answer: errorFrame(WrongLength)}
	}
	if command != SessionMessage {
		return reception{call: &call{d: d, command: command, length: len(data), in: data, message: message}}
	}
	s := d.find(data)
	if s == nil || s.host != nil {
		return reception{answer: errorFrame(InvalidSession)}
	}
	inner, chain, err := s.open(message)
	if err == AuthenticationFailed && !d.options.KeepsSessions {
		d.sessions[s.id] = nil
	}
	if code := Code(0); errors.As(err, &code) {
		return reception{answer: errorFrame(code)}
	}
	r := reception{call: &call{d: d, s: s}, chain: chain}
	if r.call.command, r.call.in, ok = parse(inner); !ok {
		r.call.command = errorReply // which is not a command: the device says so, in the session
	}
	r.call.length = len(r.call.in)
	return r
}

// perform does what was received. It returns the answer before it is encrypted.
func (r reception) perform(instead Code) []byte {
	c := r.call
	if c.s == nil {
		if instead != 0 {
			return errorFrame(instead)
		}
		return c.do(plainCommands)
	}
	c.s.chain, c.s.used = r.chain, c.d.now()
	if instead != 0 {
		return errorFrame(instead)
	}
	return c.do(sessionCommands)
}

// finish encrypts the answer.
func (r reception) finish(inner []byte) []byte {
	if r.call.s == nil {
		return inner
	}
	return r.call.s.seal(inner)
}
