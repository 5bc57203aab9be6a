"""Score: propensity, value, weights and priority of every survivor.

Every offer that is left is scored, never a sample. Scorecards that share their features are one table: the features
are evaluated once, then each survivor is a row of weights and a dot product in eight fixed lanes. A model gets one
batch for all its survivors and runs on a thread of its own; when it is late or fails, its offers compete with the
declared fallback or leave. The default priority multiplies from left to right: propensity, context, value, levers.
The factors of context and levers are never below 0.
"""

from libc.math cimport NAN, isfinite, isnan
from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from core.inference.runner cimport (
    SCORED,
    Job,
    job_new,
    job_number,
    job_number_all,
    job_release,
    job_run,
    job_score,
    job_text,
    job_text_all,
    job_void,
)
from core.kernel.eligibility cimport condition_holds
from core.kernel.machine cimport RESULT_DOUBLE, RESULT_INT, RESULT_MONEY, evaluate
from core.kernel.plan cimport (
    SLOT_CONTEXT,
    SLOT_LEVERS,
    SLOT_PROPENSITY,
    SLOT_VALUE,
    ModelColumn,
    ModelTable,
    OfferTerms,
    ScoreTable,
    Tables,
    weight_factor,
)
from core.kernel.values cimport MISSING, PRESENT, Value
from core.kernel.workspace cimport Contender, Undefined, Work

cdef extern from "core/kernel/native/vector.h" nogil:
    void rapport_linear(
        const double* weights, const double* intercepts, const uint32_t* rows, long count,
        const double* features, long width, double* totals
    )
    void rapport_logistic(double* values, long count)

cdef extern from "time.h" nogil:
    ctypedef int clockid_t
    cdef struct timespec:
        long tv_sec
        long tv_nsec
    int clock_gettime(clockid_t clock, timespec* now)
    clockid_t CLOCK_MONOTONIC

cdef enum:
    EXPLAIN_NONE = 1
    DETAIL_NONE = 0
    DETAIL_MISSING = 2
    DETAIL_FAILED = 3

# A model's time ends before the caller's deadline, so that the answer can still be finished and sent: by a fifth of what
# is left, because a busy machine wakes threads late, but at least this long and at most ten times as long.
cdef int64_t ANSWER_NS = 2_000_000


cdef inline int64_t _now_ns() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <int64_t> now.tv_sec * 1_000_000_000 + now.tv_nsec


cdef inline int64_t _model_deadline(const Work* work) noexcept nogil:
    """Until when models may be waited for, on CLOCK_MONOTONIC; their own time budgets end earlier by themselves."""
    cdef int64_t reserve
    if work.request.deadline_ns == 0:
        return INT64_MAX
    reserve = (work.request.deadline_ns - _now_ns()) // 5
    reserve = ANSWER_NS if reserve < ANSWER_NS else reserve
    reserve = 10 * ANSWER_NS if reserve > 10 * ANSWER_NS else reserve
    return work.request.deadline_ns - reserve


cdef double _number(Work* work, int32_t expression) noexcept nogil:
    """A number's value as a double, evaluated at most once a decision; NaN when missing, failed or not finite."""
    cdef Value value
    cdef uint8_t kind
    cdef double number
    if work.number_stamp[expression] == work.epoch:
        return work.number_value[expression]
    evaluate(work.plan.code, expression, work.frame, &work.arena, &value)
    kind = work.plan.code.kinds[expression]
    if value.state != PRESENT:
        number = NAN
    elif kind == RESULT_DOUBLE or kind == RESULT_MONEY:
        number = value.f
    else:
        number = <double> value.i
    work.number_stamp[expression] = work.epoch
    work.number_value[expression] = number
    return number


cdef void _read_features(Work* work, const ScoreTable* table) noexcept nogil:
    cdef uint32_t i
    cdef double number
    for i in range(table.feature_count):
        number = _number(work, table.features[i])
        work.features[i] = table.missing if isnan(number) else number
    for i in range(table.feature_count, table.width):
        work.features[i] = 0.0


cdef void _score_table(Work* work, const ScoreTable* table, int32_t member) noexcept nogil:
    """Scores the contenders chained from ``member`` on."""
    cdef const OfferTerms* terms = work.plan.terms
    cdef const int32_t* chain = work.chain
    cdef const uint32_t* offers = work.survivors
    cdef uint32_t* rows = work.rows
    cdef uint32_t* order = work.order
    cdef double* totals = work.totals
    cdef double* propensities = work.propensities
    cdef uint32_t i, count = 0
    _read_features(work, table)
    while member >= 0:
        rows[count] = terms[offers[member]].row
        order[count] = <uint32_t> member
        count += 1
        member = chain[member]
    rapport_linear(table.weights, table.intercepts, rows, count, work.features, table.width, totals)
    rapport_logistic(totals, count)
    for i in range(count):
        propensities[order[i]] = totals[i]


cdef void _score_one_card(Work* work) noexcept nogil:
    """As `_score_table` where all offers share one table: no chain is needed."""
    cdef const ScoreTable* table = &work.plan.score_tables[0]
    cdef const OfferTerms* terms = work.plan.terms
    cdef const uint32_t* offers = work.survivors
    cdef uint32_t* rows = work.rows
    cdef uint32_t i, count = work.contender_count
    _read_features(work, table)
    for i in range(count):
        rows[i] = terms[offers[i]].row
    rapport_linear(table.weights, table.intercepts, rows, count, work.features, table.width, work.propensities)
    rapport_logistic(work.propensities, count)


cdef void _fill_column(Work* work, Job* job, const ModelColumn* column, uint32_t rows) noexcept nogil:
    """Fills one column: the same for all rows, or one expression a row where it reads the offer's fields."""
    cdef uint32_t i, evaluations = rows if column.per_row else 1
    cdef int row
    cdef int32_t expression
    cdef Value value
    cdef const char* text
    cdef uint32_t length
    cdef double number
    for i in range(evaluations):
        row = <int> i if column.per_row else -1
        expression = column.expressions[work.rows[i]] if column.per_row else column.expressions[0]
        if column.is_text:
            evaluate(work.plan.code, expression, work.frame, &work.arena, &value)
            text = value.text
            length = value.length
            if value.state != PRESENT:
                if not column.has_missing:
                    job_void(job, row)
                    continue
                text = column.missing_text.text
                length = column.missing_text.length
            if row < 0:
                job_text_all(job, column.input, column.position, text, length)
            else:
                job_text(job, column.input, row, column.position, text, length)
            continue
        number = _number(work, expression)
        if isnan(number):
            if not column.has_missing:
                job_void(job, row)
                continue
            number = column.missing
        if row < 0:
            job_number_all(job, column.input, column.position, number)
        else:
            job_number(job, column.input, row, column.position, number)


cdef void _score_model(Work* work, const ModelTable* table, int32_t member) noexcept nogil:
    cdef const Tables* plan = work.plan
    cdef uint32_t i, count = 0
    cdef uint32_t contender
    cdef Job* job
    cdef int outcome = -1
    cdef double score
    while member >= 0:
        work.rows[count] = plan.terms[work.survivors[member]].row
        work.order[count] = <uint32_t> member
        count += 1
        member = work.chain[member]
    job = job_new(table.model, 1 if table.per_customer else count)
    if job != NULL:
        for i in range(table.column_count):
            _fill_column(work, job, &table.columns[i], count)
        outcome = job_run(job, _model_deadline(work))
    for i in range(count):
        contender = work.order[i]
        score = NAN
        if outcome == SCORED:
            score = job_score(job, 0 if table.per_customer else i)
        if isfinite(score):
            work.propensities[contender] = score
        else:
            work.propensities[contender] = table.fallback
            work.model_statuses[contender] = 1
            work.any_model_fallback = 1
    if job != NULL:
        job_release(job)


cdef void _weigh(Work* work, Contender* contender) noexcept nogil:
    """Adds the weights whose conditions hold. A side without conditions has its sum already, the other begins at nothing."""
    cdef const Tables* plan = work.plan
    cdef uint32_t i
    cdef double context = 0.0, lever = 0.0
    for i in range(plan.weight_starts[contender.offer], plan.weight_starts[contender.offer + 1]):
        if not (plan.use_levers if plan.weight_is_lever[i] else plan.use_context):
            continue
        if plan.weight_conditions[i] >= 0 and not condition_holds(work, plan.weight_conditions[i]):
            continue
        if plan.weight_is_lever[i]:
            lever += plan.weight_percents[i]
        else:
            context += plan.weight_percents[i]
    contender.context_percent += context
    contender.lever_percent += lever


cdef void describe_contender(Work* work, uint32_t index) noexcept nogil:
    """Fills in everything about a contender. What it evaluates was evaluated when it was scored, and is remembered."""
    cdef Contender* contender = &work.contenders[index]
    contender.priority = work.priorities[index]
    _describe(work, contender, work.survivors[index], work.propensities[index], work.model_statuses[index])


cdef inline void _describe(
    Work* work, Contender* contender, uint32_t offer, double propensity, uint8_t model_status
) noexcept nogil:
    cdef const OfferTerms* terms = &work.plan.terms[offer]
    contender.offer = offer
    contender.propensity = propensity
    contender.model_status = model_status
    contender.context_percent = terms.context_percent
    contender.lever_percent = terms.lever_percent
    contender.value = terms.value if terms.value_expression < 0 else _number(work, terms.value_expression)
    if terms.weighted:
        _weigh(work, contender)


cdef inline void _set_term(Work* work, uint32_t slot, double number) noexcept nogil:
    work.frame[slot].f = number
    work.frame[slot].state = PRESENT


cdef double _formula(Work* work, const Contender* contender) noexcept nogil:
    cdef Value value
    _set_term(work, SLOT_PROPENSITY, contender.propensity)
    _set_term(work, SLOT_CONTEXT, weight_factor(contender.context_percent))
    _set_term(work, SLOT_VALUE, contender.value)
    _set_term(work, SLOT_LEVERS, weight_factor(contender.lever_percent))
    evaluate(work.plan.code, work.plan.formula, work.frame, &work.arena, &value)
    if value.state != PRESENT:
        return NAN
    return <double> value.i if work.plan.code.kinds[work.plan.formula] == RESULT_INT else value.f


cdef void _blame(Work* work, const Contender* contender) noexcept nogil:
    """Marks an offer undefined, and finds the input whose absence made it so when somebody will ask."""
    cdef const Tables* plan = work.plan
    cdef Undefined* cause
    cdef Value value
    cdef int32_t expression = plan.terms[contender.offer].value_expression
    work.undefined[contender.offer >> 6] |= <uint64_t> 1 << (contender.offer & 63)
    if work.request.explain == EXPLAIN_NONE:
        return
    cause = &work.causes[work.cause_count]
    work.cause_count += 1
    cause.offer = contender.offer
    cause.detail = DETAIL_FAILED
    cause.slot = -1
    if not isfinite(contender.propensity):
        cause.detail = DETAIL_NONE
        return
    if isfinite(contender.value):
        expression = plan.formula
    if expression >= 0:
        evaluate(plan.code, expression, work.frame, &work.arena, &value)
        if value.state == MISSING:
            cause.detail = DETAIL_MISSING
            cause.slot = <int32_t> value.i


cdef double _priority(Work* work, uint32_t offer, double propensity, uint8_t model_status) noexcept nogil:
    """The priority of any offer: NaN when it has none, or its model failed it; then the offer is marked so."""
    cdef Contender contender
    cdef double priority = NAN
    if model_status and isnan(propensity):
        work.model_failed[offer >> 6] |= <uint64_t> 1 << (offer & 63)
        return NAN
    _describe(work, &contender, offer, propensity, model_status)
    if isfinite(contender.value):
        if work.plan.formula >= 0:
            priority = _formula(work, &contender)
        else:
            priority = (
                propensity * weight_factor(contender.context_percent) * contender.value
                * weight_factor(contender.lever_percent)
            )
    if not isfinite(priority):
        _blame(work, &contender)
    return priority


cdef void _enter(Work* work) noexcept nogil:
    """Gives every survivor its constant propensity, and chains those of one table together."""
    # Pointers in locals: the compiler cannot know that storing a number leaves `work` as it is.
    cdef const OfferTerms* all_terms = work.plan.terms
    cdef const uint32_t* offers = work.survivors
    cdef double* propensities = work.propensities
    cdef int32_t* chain = work.chain
    cdef int32_t* cards = work.card_heads
    cdef int32_t* models = work.model_heads
    cdef uint32_t i, count = work.contender_count
    cdef const OfferTerms* terms
    cdef int32_t* head
    memset(cards, 0xFF, work.plan.score_table_count * sizeof(int32_t))
    memset(models, 0xFF, work.plan.model_table_count * sizeof(int32_t))
    for i in range(count):
        terms = &all_terms[offers[i]]
        propensities[i] = terms.propensity
        if terms.kind:
            head = (cards if terms.kind == 1 else models) + terms.table
            chain[i] = head[0]
            head[0] = <int32_t> i


cdef void _prioritise(Work* work) noexcept nogil:
    """Priorities of all; offers without one are marked and leave, the others close up."""
    cdef const OfferTerms* all_terms = work.plan.terms
    cdef uint32_t* offers = work.survivors
    cdef double* propensities = work.propensities
    cdef double* priorities = work.priorities
    cdef uint8_t* statuses = work.model_statuses
    cdef bint plain = work.plan.plain and not work.any_model_fallback
    cdef uint32_t i, kept = 0, count = work.contender_count
    cdef const OfferTerms* terms
    cdef double priority
    for i in range(count):
        terms = &all_terms[offers[i]]
        # The product of `_priority`, its factors worked out when the plan was made.
        priority = propensities[i] * terms.context_factor * terms.value * terms.lever_factor
        if not plain or not isfinite(priority):
            priority = _priority(work, offers[i], propensities[i], statuses[i])
            if not isfinite(priority):
                continue
        offers[kept] = offers[i]
        propensities[kept] = propensities[i]
        statuses[kept] = statuses[i]
        priorities[kept] = priority
        kept += 1
    work.contender_count = kept


cdef void score_survivors(Work* work) noexcept nogil:
    """Makes a contender of every survivor that has a finite priority; marks the others failed or undefined."""
    cdef uint32_t i
    work.contender_count = work.survivor_count
    memset(work.model_statuses, 0, work.survivor_count)
    if work.plan.one_card:
        _score_one_card(work)
    else:
        _enter(work)
        for i in range(work.plan.score_table_count):
            if work.card_heads[i] >= 0:
                _score_table(work, &work.plan.score_tables[i], work.card_heads[i])
        for i in range(work.plan.model_table_count):
            if work.model_heads[i] >= 0:
                _score_model(work, &work.plan.model_tables[i], work.model_heads[i])
    _prioritise(work)
