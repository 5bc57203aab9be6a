// A client by grpc-go: knows the protos, two addresses, and nothing else of Rapport.
// client MODE DECISIONS CONTROL WHO [CA [CERTIFICATE KEY]]; what the modes are: tests/conformance/test_clients.py.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "rapport.test/client/rapportv1"
)

const (
	inFlight = 64
	calls    = 500
	limit    = 20 * time.Second
)

type object = map[string]any

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func open(address string, files []string) *grpc.ClientConn {
	if len(files) == 0 {
		return must(grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials())))
	}
	settings := &tls.Config{RootCAs: x509.NewCertPool()}
	if !settings.RootCAs.AppendCertsFromPEM(must(os.ReadFile(files[0]))) {
		panic("no certificate in " + files[0])
	}
	if len(files) == 3 {
		settings.Certificates = []tls.Certificate{must(tls.LoadX509KeyPair(files[1], files[2]))}
	}
	return must(grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(settings))))
}

// The names of codes as the specification writes them, not as Go does.
var names = map[codes.Code]string{
	codes.OK: "OK", codes.Canceled: "CANCELLED", codes.Unknown: "UNKNOWN", codes.InvalidArgument: "INVALID_ARGUMENT",
	codes.DeadlineExceeded: "DEADLINE_EXCEEDED", codes.NotFound: "NOT_FOUND", codes.ResourceExhausted: "RESOURCE_EXHAUSTED",
	codes.FailedPrecondition: "FAILED_PRECONDITION", codes.Unimplemented: "UNIMPLEMENTED", codes.Internal: "INTERNAL",
	codes.Unavailable: "UNAVAILABLE",
}

// The error that a call ended with, its details decoded.
func told(err error) object {
	if err == nil {
		return object{"code": "OK"}
	}
	end := status.Convert(err)
	said := object{"code": names[end.Code()], "message": end.Message()}
	for _, detail := range end.Details() {
		switch each := detail.(type) {
		case *errdetails.ErrorInfo:
			said["reason"], said["domain"], said["metadata"] = each.Reason, each.Domain, each.Metadata
		case *errdetails.LocalizedMessage:
			said["hint"] = each.Message
		}
	}
	return said
}

func code(err error) string { return names[status.Code(err)] }

func only(said object) object { return object{"code": said["code"], "reason": said["reason"]} }

func soon() context.Context {
	within, cancel := context.WithTimeout(context.Background(), limit)
	context.AfterFunc(within, cancel)
	return within
}

func cookie(value string) []*pb.Identifier {
	return []*pb.Identifier{{Namespace: "cookie", Value: value}}
}

func ask(who string) *pb.DecideRequest {
	return &pb.DecideRequest{
		Identifiers: cookie(who), Channel: "web", Placements: []*pb.PlacementRequest{{Name: "home_hero", Slots: 2}},
	}
}

func strange(who, channel string) *pb.DecideRequest {
	request := ask(who)
	request.Channel = channel
	return request
}

func moment(who string) *pb.DecideRequest {
	request := ask(who)
	request.Facts = map[string]*pb.Value{
		"cart": {Kind: &pb.Value_MoneyValue{MoneyValue: &pb.Money{Minor: 6000, Currency: "EUR"}}},
	}
	request.Events = []*pb.Event{{Type: "visit", Key: "now"}}
	request.Explain = pb.ExplainLevel_EXPLAIN_LEVEL_FULL
	request.Seed = proto.Uint64(math.MaxUint64)
	return request
}

func text(value string) *pb.Value { return &pb.Value{Kind: &pb.Value_StringValue{StringValue: value}} }

func visits(who string) *pb.TellRequest {
	request := &pb.TellRequest{Identifiers: cookie(who), Attributes: map[string]*pb.Value{
		"age": {Kind: &pb.Value_IntValue{IntValue: 30}}, "first_name": text("João"),
	}}
	for _, key := range []string{"1", "2", "3"} {
		fields := map[string]*pb.Value{"page": text("/")}
		request.Events = append(request.Events, &pb.Event{Type: "visit", Key: key, Fields: fields})
	}
	return request
}

// A request whose answer is far larger than a stream's window.
func wall(who string) *pb.DecideRequest {
	request := ask(who)
	request.Placements = []*pb.PlacementRequest{{Name: "wall", Slots: 100}}
	request.Explain = pb.ExplainLevel_EXPLAIN_LEVEL_FULL
	return request
}

func each[T, R any](all []T, of func(T) R) []R {
	made := make([]R, len(all))
	for i, one := range all {
		made[i] = of(one)
	}
	return made
}

func answers(decisions, control *grpc.ClientConn, who string) object {
	stub := pb.NewDecisionServiceClient(decisions)
	seen := object{}
	var health []string
	for _, service := range []string{"", "rapport.v1.DecisionService", "nobody"} {
		answer, err := grpc_health_v1.NewHealthClient(decisions).Check(
			soon(), &grpc_health_v1.HealthCheckRequest{Service: service})
		if err != nil {
			health = append(health, code(err))
		} else {
			health = append(health, answer.Status.String())
		}
	}
	seen["health"] = health
	for _, name := range []string{"tell", "tell_again"} {
		kept := must(stub.Tell(soon(), visits(who)))
		seen[name] = object{"applied": kept.Applied, "duplicates": kept.Duplicates, "created": kept.Created}
	}
	must(pb.NewProfileServiceClient(control).SetConsent(
		soon(), &pb.SetConsentRequest{Identifiers: cookie(who), Purpose: "marketing", Granted: true}))

	answer := must(stub.Decide(soon(), moment(who)))
	placement := answer.Placements[0]
	first := placement.Offers[0]
	seen["decide"] = object{
		"status": placement.Status.String(), "known": answer.Known, "program": answer.Program,
		"seed":   strconv.FormatUint(answer.Seed, 10),
		"offers": each(placement.Offers, (*pb.DecidedOffer).GetOffer),
		"ranks":  each(placement.Offers, (*pb.DecidedOffer).GetRank),
		"tokens": each(placement.Offers, func(one *pb.DecidedOffer) bool { return len(one.Token) > 0 && len(one.Token) <= 1024 }),
		"title":  first.Content["title"],
		"price": object{
			"minor": strconv.FormatInt(first.Price.Amount.Minor, 10), "currency": first.Price.Amount.Currency,
		},
		"clamp": first.Price.Clamp.String(), "priority": math.Round(first.Priority*1e9) / 1e9,
		"lever_percent": first.Factors.LeverPercent,
	}
	again := moment(who)
	again.AsOf = answer.AsOf
	seen["repeats"] = must(stub.Decide(soon(), again)).Decision == answer.Decision
	many := must(stub.DecideMany(
		soon(), &pb.DecideManyRequest{Requests: []*pb.DecideRequest{ask(who), strange(who, "wab")}}))
	seen["many"] = each(many.Results, func(one *pb.DecideManyResult) string {
		if failure := one.GetFailure(); failure != nil {
			return failure.Reason
		}
		return one.GetResponse().Placements[0].Offers[0].Offer
	})
	report := &pb.Outcome{Token: first.Token, Outcome: "clicked"}
	forged := &pb.Outcome{Token: "forged", Outcome: "clicked"}
	recorded := must(stub.Record(soon(), &pb.RecordRequest{Outcomes: []*pb.Outcome{report, report, forged}}))
	seen["record"] = each(recorded.Results, func(one *pb.OutcomeResult) string { return one.Status.String() })
	explained := must(stub.Explain(
		soon(), &pb.ExplainRequest{Request: ask(who + " unknown"), Offers: []string{"summer_sale"}})).Response.Placements[0]
	seen["explain"] = object{
		"offers": each(explained.Offers, (*pb.DecidedOffer).GetOffer),
		"tokens": each(explained.Offers, func(one *pb.DecidedOffer) bool { return one.Token != "" }),
		"rejections": each(explained.Rejections, func(one *pb.Rejection) []string {
			return []string{one.Offer, one.Reason.String(), one.Detail.String(), one.Input}
		}),
	}

	_, err := stub.Decide(soon(), strange(who, "wab"))
	seen["error"] = told(err)
	_, err = pb.NewProfileServiceClient(decisions).GetProfile(soon(), &pb.GetProfileRequest{Identifiers: cookie(who)})
	seen["not_served"] = only(told(err))
	_, err = stub.Decide(soon(), strange(who, strings.Repeat("w", 2_000_000)))
	seen["too_large"] = only(told(err))
	_, err = stub.Decide(soon(), ask(who))
	seen["deadline_met"] = code(err)
	late, cancel := context.WithTimeout(context.Background(), time.Microsecond)
	defer cancel()
	_, err = stub.Explain(late, &pb.ExplainRequest{Request: wall(who)})
	seen["deadline_exceeded"] = code(err)

	ended := map[string]int{}
	var lock sync.Mutex
	var group sync.WaitGroup
	var left atomic.Int64
	left.Store(calls)
	for range inFlight {
		group.Go(func() {
			for left.Add(-1) >= 0 {
				_, err := stub.Decide(soon(), ask(who))
				lock.Lock()
				ended[code(err)]++
				lock.Unlock()
			}
		})
	}
	group.Wait()
	seen["concurrent"] = ended
	large := must(stub.Decide(soon(), wall(who))).Placements[0]
	size := 0
	for _, one := range large.Offers {
		for _, content := range one.Content {
			size += len(content)
		}
	}
	seen["large"] = object{
		"offers": len(large.Offers), "first": large.Offers[0].Offer, "last": large.Offers[len(large.Offers)-1].Offer,
		"content_bytes": size, "rejections": len(large.Rejections),
	}
	return seen
}

// Calls on one channel until a line comes or calls fail; then once more, waiting for a server.
func stay(decisions *grpc.ClientConn, who string) object {
	stub := pb.NewDecisionServiceClient(decisions)
	ended := map[string]int{}
	var lock sync.Mutex
	var group sync.WaitGroup
	var ending atomic.Bool
	calling := make(chan struct{}, 1)
	for number := range 8 {
		group.Go(func() {
			for !ending.Load() {
				var err error
				if number%2 == 1 {
					_, err = stub.Tell(soon(), visits(who))
				} else {
					_, err = stub.Decide(soon(), ask(who))
				}
				lock.Lock()
				ended[code(err)]++
				enough := ended["OK"] >= inFlight
				lock.Unlock()
				if err != nil {
					return
				}
				if enough {
					select {
					case calling <- struct{}{}:
					default:
					}
				}
			}
		})
	}
	select {
	case <-calling:
	case <-time.After(limit):
	}
	fmt.Println("calling")
	must(bufio.NewReader(os.Stdin).ReadString('\n'))
	ending.Store(true)
	group.Wait()
	_, err := stub.Decide(soon(), ask(who), grpc.WaitForReady(true))
	seen := make([]string, 0, len(ended))
	for name := range ended {
		seen = append(seen, name)
	}
	sort.Strings(seen)
	return object{"codes": seen, "after": code(err)}
}

func main() {
	mode, address, control, who, files := os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5:]
	decisions, other := open(address, files), open(control, nil)
	var seen object
	switch mode {
	case "answers":
		seen = answers(decisions, other, who)
	case "stay":
		seen = stay(decisions, who)
	default:
		_, err := pb.NewDecisionServiceClient(decisions).Decide(soon(), ask(who))
		seen = object{"code": code(err)}
	}
	fmt.Println(string(must(json.Marshal(seen))))
}
