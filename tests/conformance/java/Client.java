// A client by grpc-java: knows the protos, two addresses, and nothing else of Rapport.
// Client MODE DECISIONS CONTROL WHO [CA [CERTIFICATE KEY]]; what the modes are: tests/conformance/test_clients.py.
//
// The messages are generated; the methods are named here from the protos' services, so that no second generator is needed.
import com.google.protobuf.Any;
import com.google.protobuf.Message;
import com.google.rpc.ErrorInfo;
import com.google.rpc.LocalizedMessage;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ChannelCredentials;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.TlsChannelCredentials;
import io.grpc.health.v1.HealthCheckRequest;
import io.grpc.health.v1.HealthGrpc;
import io.grpc.protobuf.ProtoUtils;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.ClientCalls;
import java.io.BufferedReader;
import java.io.File;
import java.io.InputStreamReader;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Collectors;
import rapport.v1.Decision.DecideManyRequest;
import rapport.v1.Decision.DecideManyResponse;
import rapport.v1.Decision.DecideRequest;
import rapport.v1.Decision.DecideResponse;
import rapport.v1.Decision.DecidedOffer;
import rapport.v1.Decision.ExplainLevel;
import rapport.v1.Decision.ExplainRequest;
import rapport.v1.Decision.ExplainResponse;
import rapport.v1.Decision.Outcome;
import rapport.v1.Decision.PlacementAnswer;
import rapport.v1.Decision.PlacementRequest;
import rapport.v1.Decision.RecordRequest;
import rapport.v1.Decision.RecordResponse;
import rapport.v1.Decision.TellRequest;
import rapport.v1.Decision.TellResponse;
import rapport.v1.Profile.GetProfileRequest;
import rapport.v1.Profile.GetProfileResponse;
import rapport.v1.Profile.SetConsentRequest;
import rapport.v1.Profile.SetConsentResponse;
import rapport.v1.Values.Event;
import rapport.v1.Values.Identifier;
import rapport.v1.Values.Money;
import rapport.v1.Values.Value;

public final class Client {
  static final int IN_FLIGHT = 64;
  static final int CALLS = 500;
  static final long MILLISECONDS = 20_000;

  static final String DECISIONS = "rapport.v1.DecisionService/";
  static final String PROFILES = "rapport.v1.ProfileService/";
  static final MethodDescriptor<DecideRequest, DecideResponse> DECIDE =
      method(DECISIONS + "Decide", DecideRequest.getDefaultInstance(), DecideResponse.getDefaultInstance());
  static final MethodDescriptor<DecideManyRequest, DecideManyResponse> DECIDE_MANY =
      method(DECISIONS + "DecideMany", DecideManyRequest.getDefaultInstance(), DecideManyResponse.getDefaultInstance());
  static final MethodDescriptor<RecordRequest, RecordResponse> RECORD =
      method(DECISIONS + "Record", RecordRequest.getDefaultInstance(), RecordResponse.getDefaultInstance());
  static final MethodDescriptor<TellRequest, TellResponse> TELL =
      method(DECISIONS + "Tell", TellRequest.getDefaultInstance(), TellResponse.getDefaultInstance());
  static final MethodDescriptor<ExplainRequest, ExplainResponse> EXPLAIN =
      method(DECISIONS + "Explain", ExplainRequest.getDefaultInstance(), ExplainResponse.getDefaultInstance());
  static final MethodDescriptor<GetProfileRequest, GetProfileResponse> GET_PROFILE =
      method(PROFILES + "GetProfile", GetProfileRequest.getDefaultInstance(), GetProfileResponse.getDefaultInstance());
  static final MethodDescriptor<SetConsentRequest, SetConsentResponse> SET_CONSENT =
      method(PROFILES + "SetConsent", SetConsentRequest.getDefaultInstance(), SetConsentResponse.getDefaultInstance());

  static <Q extends Message, A extends Message> MethodDescriptor<Q, A> method(String name, Q request, A answer) {
    return MethodDescriptor.<Q, A>newBuilder()
        .setType(MethodDescriptor.MethodType.UNARY)
        .setFullMethodName(name)
        .setRequestMarshaller(ProtoUtils.marshaller(request))
        .setResponseMarshaller(ProtoUtils.marshaller(answer))
        .build();
  }

  static ManagedChannel open(String address, List<String> files) throws Exception {
    if (files.isEmpty()) {
      return Grpc.newChannelBuilder(address, InsecureChannelCredentials.create()).build();
    }
    TlsChannelCredentials.Builder tls = TlsChannelCredentials.newBuilder().trustManager(new File(files.get(0)));
    if (files.size() == 3) {
      tls.keyManager(new File(files.get(1)), new File(files.get(2)));
    }
    ChannelCredentials credentials = tls.build();
    return Grpc.newChannelBuilder(address, credentials).build();
  }

  static <Q, A> A call(Channel channel, MethodDescriptor<Q, A> method, Q request, long milliseconds, boolean wait) {
    CallOptions options = CallOptions.DEFAULT.withDeadlineAfter(milliseconds, TimeUnit.MILLISECONDS);
    return ClientCalls.blockingUnaryCall(channel, method, wait ? options.withWaitForReady() : options, request);
  }

  static <Q, A> A call(Channel channel, MethodDescriptor<Q, A> method, Q request) {
    return call(channel, method, request, MILLISECONDS, false);
  }

  /** The error that a call ends with, its details decoded. */
  static <Q, A> Map<String, Object> failed(
      Channel channel, MethodDescriptor<Q, A> method, Q request, long milliseconds, boolean wait) throws Exception {
    Map<String, Object> said = new LinkedHashMap<>();
    try {
      call(channel, method, request, milliseconds, wait);
      said.put("code", "OK");
    } catch (StatusRuntimeException error) {
      Status status = error.getStatus();
      said.put("code", status.getCode().name());
      said.put("message", String.valueOf(status.getDescription()));
      for (Any detail : StatusProto.fromThrowable(error).getDetailsList()) {
        if (detail.is(ErrorInfo.class)) {
          ErrorInfo info = detail.unpack(ErrorInfo.class);
          said.put("reason", info.getReason());
          said.put("domain", info.getDomain());
          said.put("metadata", info.getMetadataMap());
        } else if (detail.is(LocalizedMessage.class)) {
          said.put("hint", detail.unpack(LocalizedMessage.class).getMessage());
        }
      }
    }
    return said;
  }

  static <Q, A> Map<String, Object> failed(Channel channel, MethodDescriptor<Q, A> method, Q request) throws Exception {
    return failed(channel, method, request, MILLISECONDS, false);
  }

  static Map<String, Object> only(Map<String, Object> said) {
    return object("code", said.get("code"), "reason", said.get("reason"));
  }

  static Identifier cookie(String value) {
    return Identifier.newBuilder().setNamespace("cookie").setValue(value).build();
  }

  static DecideRequest.Builder ask(String who) {
    return DecideRequest.newBuilder()
        .addIdentifiers(cookie(who))
        .setChannel("web")
        .addPlacements(PlacementRequest.newBuilder().setName("home_hero").setSlots(2));
  }

  static DecideRequest.Builder moment(String who) {
    Money cart = Money.newBuilder().setMinor(6000).setCurrency("EUR").build();
    return ask(who)
        .putFacts("cart", Value.newBuilder().setMoneyValue(cart).build())
        .addEvents(Event.newBuilder().setType("visit").setKey("now"))
        .setExplain(ExplainLevel.EXPLAIN_LEVEL_FULL)
        .setSeed(-1L);
  }

  static Value text(String value) {
    return Value.newBuilder().setStringValue(value).build();
  }

  static TellRequest visits(String who) {
    TellRequest.Builder request = TellRequest.newBuilder()
        .addIdentifiers(cookie(who))
        .putAttributes("age", Value.newBuilder().setIntValue(30).build())
        .putAttributes("first_name", text("João"));
    for (String key : List.of("1", "2", "3")) {
      request.addEvents(Event.newBuilder().setType("visit").setKey(key).putFields("page", text("/")));
    }
    return request.build();
  }

  /** A request whose answer is far larger than a stream's window. */
  static DecideRequest wall(String who) {
    return ask(who)
        .clearPlacements()
        .addPlacements(PlacementRequest.newBuilder().setName("wall").setSlots(100))
        .setExplain(ExplainLevel.EXPLAIN_LEVEL_FULL)
        .build();
  }

  static Map<String, Object> answers(Channel decisions, Channel control, String who) throws Exception {
    Map<String, Object> seen = new LinkedHashMap<>();
    List<Object> health = new ArrayList<>();
    for (String service : List.of("", "rapport.v1.DecisionService", "nobody")) {
      HealthCheckRequest asked = HealthCheckRequest.newBuilder().setService(service).build();
      try {
        health.add(call(decisions, HealthGrpc.getCheckMethod(), asked).getStatus().name());
      } catch (StatusRuntimeException error) {
        health.add(error.getStatus().getCode().name());
      }
    }
    seen.put("health", health);
    for (String name : List.of("tell", "tell_again")) {
      TellResponse kept = call(decisions, TELL, visits(who));
      seen.put(name, object("applied", kept.getApplied(), "duplicates", kept.getDuplicates(), "created", kept.getCreated()));
    }
    call(control, SET_CONSENT,
        SetConsentRequest.newBuilder().addIdentifiers(cookie(who)).setPurpose("marketing").setGranted(true).build());

    DecideResponse answer = call(decisions, DECIDE, moment(who).build());
    PlacementAnswer placement = answer.getPlacements(0);
    DecidedOffer first = placement.getOffers(0);
    Money amount = first.getPrice().getAmount();
    seen.put("decide", object(
        "status", placement.getStatus().name(),
        "known", answer.getKnown(),
        "program", answer.getProgram(),
        "seed", Long.toUnsignedString(answer.getSeed()),
        "offers", placement.getOffersList().stream().map(DecidedOffer::getOffer).toList(),
        "ranks", placement.getOffersList().stream().map(DecidedOffer::getRank).toList(),
        "tokens", placement.getOffersList().stream()
            .map(each -> !each.getToken().isEmpty() && each.getToken().length() <= 1024).toList(),
        "title", first.getContentOrThrow("title"),
        "price", object("minor", Long.toString(amount.getMinor()), "currency", amount.getCurrency()),
        "clamp", first.getPrice().getClamp().name(),
        "priority", Math.round(first.getPriority() * 1e9) / 1e9,
        "lever_percent", first.getFactors().getLeverPercent()));
    DecideRequest again = moment(who).setAsOf(answer.getAsOf()).build();
    seen.put("repeats", call(decisions, DECIDE, again).getDecision().equals(answer.getDecision()));
    DecideRequest wrong = ask(who).setChannel("wab").build();
    DecideManyRequest both = DecideManyRequest.newBuilder().addRequests(ask(who)).addRequests(wrong).build();
    seen.put("many", call(decisions, DECIDE_MANY, both).getResultsList().stream()
        .map(each -> each.hasFailure()
            ? each.getFailure().getReason() : each.getResponse().getPlacements(0).getOffers(0).getOffer())
        .toList());
    Outcome report = Outcome.newBuilder().setToken(first.getToken()).setOutcome("clicked").build();
    Outcome forged = Outcome.newBuilder().setToken("forged").setOutcome("clicked").build();
    RecordRequest reports =
        RecordRequest.newBuilder().addOutcomes(report).addOutcomes(report).addOutcomes(forged).build();
    seen.put("record", call(decisions, RECORD, reports).getResultsList().stream().map(each -> each.getStatus().name()).toList());
    ExplainRequest stranger =
        ExplainRequest.newBuilder().setRequest(ask(who + " unknown")).addOffers("summer_sale").build();
    PlacementAnswer explained = call(decisions, EXPLAIN, stranger).getResponse().getPlacements(0);
    seen.put("explain", object(
        "offers", explained.getOffersList().stream().map(DecidedOffer::getOffer).toList(),
        "tokens", explained.getOffersList().stream().map(each -> !each.getToken().isEmpty()).toList(),
        "rejections", explained.getRejectionsList().stream()
            .map(each -> List.of(each.getOffer(), each.getReason().name(), each.getDetail().name(), each.getInput()))
            .toList()));

    seen.put("error", failed(decisions, DECIDE, wrong));
    GetProfileRequest asked = GetProfileRequest.newBuilder().addIdentifiers(cookie(who)).build();
    seen.put("not_served", only(failed(decisions, GET_PROFILE, asked)));
    seen.put("too_large", only(failed(decisions, DECIDE, ask(who).setChannel("w".repeat(2_000_000)).build())));
    seen.put("deadline_met", failed(decisions, DECIDE, ask(who).build()).get("code"));
    ExplainRequest heavy = ExplainRequest.newBuilder().setRequest(wall(who)).build();
    seen.put("deadline_exceeded", failed(decisions, EXPLAIN, heavy, 1, false).get("code"));

    Map<String, Integer> ended = new TreeMap<>();
    AtomicInteger left = new AtomicInteger(CALLS);
    ExecutorService pool = Executors.newFixedThreadPool(IN_FLIGHT);
    List<Future<?>> callers = new ArrayList<>();
    for (int number = 0; number < IN_FLIGHT; number++) {
      callers.add(pool.submit(() -> {
        while (left.getAndDecrement() > 0) {
          String code = (String) failed(decisions, DECIDE, ask(who).build()).get("code");
          synchronized (ended) {
            ended.merge(code, 1, Integer::sum);
          }
        }
        return null;
      }));
    }
    for (Future<?> caller : callers) {
      caller.get();
    }
    pool.shutdown();
    seen.put("concurrent", ended);
    PlacementAnswer large = call(decisions, DECIDE, wall(who)).getPlacements(0);
    seen.put("large", object(
        "offers", large.getOffersCount(),
        "first", large.getOffers(0).getOffer(),
        "last", large.getOffers(large.getOffersCount() - 1).getOffer(),
        "content_bytes", large.getOffersList().stream()
            .flatMap(each -> each.getContentMap().values().stream()).mapToInt(String::length).sum(),
        "rejections", large.getRejectionsCount()));
    return seen;
  }

  /** Calls on one channel until a line comes or calls fail; then once more, waiting for a server. */
  static Map<String, Object> stay(Channel decisions, String who) throws Exception {
    Map<String, Integer> ended = new TreeMap<>();
    CountDownLatch calling = new CountDownLatch(IN_FLIGHT);
    CountDownLatch ending = new CountDownLatch(1);
    ExecutorService pool = Executors.newFixedThreadPool(8);
    List<Future<?>> workers = new ArrayList<>();
    for (int each = 0; each < 8; each++) {
      boolean tells = each % 2 == 1;
      workers.add(pool.submit(() -> {
        while (ending.getCount() > 0) {
          Map<String, Object> said = tells
              ? failed(decisions, TELL, visits(who)) : failed(decisions, DECIDE, ask(who).build());
          String code = (String) said.get("code");
          synchronized (ended) {
            ended.merge(code, 1, Integer::sum);
          }
          if (!code.equals("OK")) {
            return null;
          }
          calling.countDown();
        }
        return null;
      }));
    }
    calling.await(MILLISECONDS, TimeUnit.MILLISECONDS);
    System.out.println("calling");
    new BufferedReader(new InputStreamReader(System.in)).readLine();
    ending.countDown();
    for (Future<?> worker : workers) {
      worker.get();
    }
    pool.shutdown();
    Object after = failed(decisions, DECIDE, ask(who).build(), MILLISECONDS, true).get("code");
    return object("codes", List.copyOf(ended.keySet()), "after", after);
  }

  static Map<String, Object> object(Object... pairs) {
    Map<String, Object> made = new LinkedHashMap<>();
    for (int at = 0; at < pairs.length; at += 2) {
      made.put((String) pairs[at], pairs[at + 1]);
    }
    return made;
  }

  static String json(Object value) {
    if (value instanceof Map<?, ?> map) {
      return map.entrySet().stream()
          .map(each -> json(each.getKey()) + ": " + json(each.getValue())).collect(Collectors.joining(", ", "{", "}"));
    }
    if (value instanceof List<?> list) {
      return list.stream().map(Client::json).collect(Collectors.joining(", ", "[", "]"));
    }
    if (value instanceof String text) {
      return "\"" + text.replace("\\", "\\\\").replace("\"", "\\\"").replace("\n", "\\n") + "\"";
    }
    return String.valueOf(value);
  }

  public static void main(String[] arguments) throws Exception {
    String who = arguments[3];
    ManagedChannel decisions = open(arguments[1], List.of(arguments).subList(4, arguments.length));
    ManagedChannel control = open(arguments[2], List.of());
    Map<String, Object> seen = switch (arguments[0]) {
      case "answers" -> answers(decisions, control, who);
      case "stay" -> stay(decisions, who);
      default -> object("code", failed(decisions, DECIDE, ask(who).build()).get("code"));
    };
    System.out.println(json(seen));
    decisions.shutdownNow();
    control.shutdownNow();
  }
}
