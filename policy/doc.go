// Package policy asks a Rego policy whether a request may go on.
//
// A policy is prepared once and asked many times. [Load] reads it from a
// `.rego` file, a directory, a bundle (`.tar.gz`) or a compiled `.wasm`
// module, checks it, and hands back an [Engine]; [Engine.Watch] follows the
// file and swaps in each new version that compiles. A broken version is
// refused and the old one stays in force.
//
// # What a policy says
//
// The package is budgetguard.policy. The rule allow must be true for a request
// to pass. The rule deny is optional and holds messages: a set, an array, a
// single string, or an object (a string value is a message, and under the value
// true the key is one, which is how an old partial rule without a body reads
// today). Any message denies, whatever allow says; `deny = true` denies without
// a message.
//
// Whatever cannot be answered denies: an undefined allow, an allow that is no
// boolean, two rules that contradict each other, a built-in that fails (a
// division by zero, a malformed time), an evaluation longer than [Timeout].
//
// # What a policy sees
//
// [Input] lists it. Money is a JSON number in USD and keeps all its decimals,
// but Rego itself compares two fractions as 64-bit floats when they need more
// than 15 significant digits: a comparison is exact to the nano-dollar below a
// million dollars. The ledger, not the policy, keeps budgets exactly.
//
// # What a policy may not do
//
// A decision must be replayable from its input, so built-ins that reach the
// network, the process, the clock or a source of randomness do not exist here:
// http.send, net.*, opa.runtime, rand.*, time.now_ns, uuid.rfc4122 and the
// signing of tokens. A policy that calls one is refused when it is loaded
// ([BuiltinError]). The instant of the request is input.now.
//
// # Old and new Rego
//
// Every file is read as current Rego (v1) and, where that fails, as Rego v0.
// Files of both kinds may stand side by side.
package policy
