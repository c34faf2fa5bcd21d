// Package provider says what is particular about each provider of models: how it is called, what its
// usage means, and what its statuses prove. One value a provider; nothing here calls anybody.
//
// A request goes to the provider that the base URL's host belongs to. Behind a host that is nobody's
// (a mock, another gateway, a proxy of the company's) the catalogue's row decides: a model of Mistral
// is spoken to as Mistral.
package provider
