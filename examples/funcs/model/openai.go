package model

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"

	"github.com/tmaxmax/go-sse"
)

// OpenAI is a model behind an endpoint that takes OpenAI's chat completions.
type OpenAI struct {
	URL  string // the API's base, such as https://api.openai.com/v1
	Name string // of the model
	Key  string // sent as a bearer token; may be empty
	HTTP *http.Client
}

// maxChunk bounds one piece of a stream, and maxProblem what is read of an answer that is no stream.
const (
	maxChunk   = 1 << 20
	maxProblem = 4 << 10
)

type completion struct {
	Model    string    `json:"model"`
	Messages []Message `json:"messages"`
	Stream   bool      `json:"stream"`
}

type chunk struct {
	Choices []struct {
		Delta struct {
			Content string `json:"content"`
		} `json:"delta"`
	} `json:"choices"`
	Error *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// Stream implements Model.
func (m *OpenAI) Stream(ctx context.Context, conversation []Message) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		err := m.stream(ctx, conversation, func(text string) bool { return yield(text, nil) })
		if errors.Is(err, errLeft) {
			return
		}
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			yield("", err)
		}
	}
}

// errLeft says that who reads has had enough.
var errLeft = errors.New("reader has left")

func (m *OpenAI) stream(ctx context.Context, conversation []Message, yield func(string) bool) error {
	res, err := m.ask(ctx, conversation)
	if err != nil {
		return fmt.Errorf("ask model: %w", err)
	}
	defer res.Body.Close()
	for event, err := range sse.Read(res.Body, &sse.ReadConfig{MaxEventSize: maxChunk}) {
		if err != nil {
			return fmt.Errorf("read model's answer: %w", err)
		}
		if event.Data == "[DONE]" {
			return nil
		}
		var c chunk
		if err := json.Unmarshal([]byte(event.Data), &c); err != nil {
			return fmt.Errorf("read model's answer: %w", err)
		}
		if c.Error != nil {
			return fmt.Errorf("model failed: %s", c.Error.Message)
		}
		for _, choice := range c.Choices {
			if choice.Delta.Content != "" && !yield(choice.Delta.Content) {
				return errLeft
			}
		}
	}
	return errors.New("read model's answer: it ended before its end")
}

func (m *OpenAI) ask(ctx context.Context, conversation []Message) (*http.Response, error) {
	body, err := json.Marshal(completion{Model: m.Name, Messages: conversation, Stream: true})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(m.URL, "/")+"/chat/completions", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "text/event-stream")
	if m.Key != "" {
		req.Header.Set("Authorization", "Bearer "+m.Key)
	}
	client := m.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		defer res.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(res.Body, maxProblem)) // what there is of it helps
		return nil, fmt.Errorf("it answered %s: %s", res.Status, bytes.TrimSpace(text))
	}
	return res, nil
}
