// Package perdurehttp is both ends of perdure's HTTP API: [Handler] serves an engine, [Client] reaches it
// from another process and is a [perdure.Client] like the engine's own.
//
//	h := perdurehttp.NewHandler(eng, nil)
//	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
//
//	c, err := perdurehttp.NewClient("http://127.0.0.1:8088", nil)
//	handle, err := Chat.Start(ctx, c, Message{"Plan a trip to Rome"}, nil)
//
// The API is JSON; GET /v1/openapi.json describes it. An error is a problem document (RFC 9457), see
// [Problem]: its code is one of a closed list, and errors.Is and errors.As find the same errors of package
// perdure in it as the engine's own client returns.
//
// # Waiting
//
// Prefer: wait=SECONDS makes POST /v1/tasks and GET …/result wait for the turn's end, at most 60 seconds;
// what is still open then is answered as it is (202, or the handle), and asked for again. A server that
// shuts down answers its waiters at once.
//
// # Repeating
//
// Every request may be repeated: a start is recognised by its task and input ID, a cancel, terminate, resume or
// delete by its request ID (request_id, or the header Idempotency-Key). A [Client] makes them before the first try.
// That is how a Client survives a restart of its server. A change whose request has arrived is carried out although
// its caller goes.
//
// # Security
//
// A browser's page of another origin is refused (Sec-Fetch-Site and Origin), and so is a Host that is
// neither an address, nor localhost, nor named in [HandlerOptions] (DNS rebinding). There is no
// authentication yet: serve it on a loopback address, or behind something that authenticates.
package perdurehttp
