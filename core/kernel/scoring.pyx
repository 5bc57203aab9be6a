"""Score: propensity, value, weights and priority of every survivor.

Every offer that is left is scored, never a sample. Scorecards that share their features are one table: the features
are evaluated once, then each survivor is a row of weights and a dot product in eight fixed lanes. A model gets one
batch for all its survivors and runs on a thread of its own; when it is late or fails, its offers compete with the
declared fallback or leave. The default priority multiplies from left to right: propensity, context, value, levers.
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


cdef void _score_table(Work* work, uint32_t table_number) noexcept nogil:
    cdef const Tables* plan = work.plan
    cdef const ScoreTable* table = &plan.score_tables[table_number]
    cdef uint32_t i, count = 0
    cdef int32_t member
    cdef double number
    for i in range(table.feature_count):
        number = _number(work, table.features[i])
        work.features[i] = table.missing if isnan(number) else number
    for i in range(table.feature_count, table.width):
        work.features[i] = 0.0
    member = work.card_heads[table_number]
    while member >= 0:
        work.rows[count] = plan.terms[work.contenders[member].offer].row
        work.order[count] = <uint32_t> member
        count += 1
        member = work.chain[member]
    rapport_linear(
        table.weights, table.intercepts, work.rows, count, work.features, table.width, work.totals
    )
    rapport_logistic(work.totals, count)
    for i in range(count):
        work.contenders[work.order[i]].propensity = work.totals[i]


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


cdef void _score_model(Work* work, uint32_t table_number) noexcept nogil:
    cdef const Tables* plan = work.plan
    cdef const ModelTable* table = &plan.model_tables[table_number]
    cdef uint32_t i, count = 0
    cdef Contender* contender
    cdef Job* job
    cdef int32_t member
    cdef int outcome = -1
    cdef double score
    member = work.model_heads[table_number]
    while member >= 0:
        work.rows[count] = plan.terms[work.contenders[member].offer].row
        work.order[count] = <uint32_t> member
        count += 1
        member = work.chain[member]
    job = job_new(table.model, 1 if table.per_customer else count)
    if job != NULL:
        for i in range(table.column_count):
            _fill_column(work, job, &table.columns[i], count)
        outcome = job_run(job, _model_deadline(work))
    for i in range(count):
        contender = &work.contenders[work.order[i]]
        score = NAN
        if outcome == SCORED:
            score = job_score(job, 0 if table.per_customer else i)
        if isfinite(score):
            contender.propensity = score
        else:
            contender.propensity = table.fallback
            contender.model_status = 1
            work.any_model_fallback = 1
    if job != NULL:
        job_release(job)


cdef void _weigh(Work* work, Contender* contender) noexcept nogil:
    """Adds the weights whose conditions hold. A side without conditions has its sum already, the other begins at nothing."""
    cdef const Tables* plan = work.plan
    cdef uint32_t i
    cdef double context = 0.0, lever = 0.0
    for i in range(plan.weight_starts[contender.offer], plan.weight_starts[contender.offer + 1]):
        if plan.weight_conditions[i] >= 0 and not condition_holds(work, plan.weight_conditions[i]):
            continue
        if not (plan.use_levers if plan.weight_is_lever[i] else plan.use_context):
            continue
        if plan.weight_is_lever[i]:
            lever += plan.weight_percents[i]
        else:
            context += plan.weight_percents[i]
    contender.context_percent += context
    contender.lever_percent += lever


cdef inline void _set_term(Work* work, uint32_t slot, double number) noexcept nogil:
    work.frame[slot].f = number
    work.frame[slot].state = PRESENT


cdef inline double _product(const Contender* contender) noexcept nogil:
    """The default priority; factors switched off are 1 or 0 %, which changes no bit of it."""
    return (
        contender.propensity * (1.0 + contender.context_percent / 100.0) * contender.value
        * (1.0 + contender.lever_percent / 100.0)
    )


cdef double _formula(Work* work, const Contender* contender) noexcept nogil:
    cdef Value value
    _set_term(work, SLOT_PROPENSITY, contender.propensity)
    _set_term(work, SLOT_CONTEXT, 1.0 + contender.context_percent / 100.0)
    _set_term(work, SLOT_VALUE, contender.value)
    _set_term(work, SLOT_LEVERS, 1.0 + contender.lever_percent / 100.0)
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


cdef void _enter(Work* work) noexcept nogil:
    """Makes a contender of every survivor and chains those of one table together."""
    cdef const Tables* plan = work.plan
    cdef uint32_t i
    cdef const OfferTerms* terms
    cdef Contender* contender
    cdef int32_t* head
    memset(work.card_heads, 0xFF, plan.score_table_count * sizeof(int32_t))
    memset(work.model_heads, 0xFF, plan.model_table_count * sizeof(int32_t))
    for i in range(work.survivor_count):
        contender = &work.contenders[i]
        contender.offer = work.survivors[i]
        terms = &plan.terms[contender.offer]
        contender.propensity = terms.propensity if plan.use_propensity else 1.0
        contender.context_percent = terms.context_percent if plan.use_context else 0.0
        contender.value = terms.value if plan.use_value else 1.0
        contender.lever_percent = terms.lever_percent if plan.use_levers else 0.0
        contender.model_status = 0
        if terms.kind:
            head = work.card_heads if terms.kind == 1 else work.model_heads
            work.chain[i] = head[terms.table]
            head[terms.table] = <int32_t> i
    work.contender_count = work.survivor_count


cdef void score_survivors(Work* work) noexcept nogil:
    """Makes a contender of every survivor that has a finite priority; marks the others failed or undefined."""
    cdef const Tables* plan = work.plan
    cdef uint32_t i, kept = 0, offer
    cdef const OfferTerms* terms
    cdef Contender* contender
    _enter(work)
    if plan.use_propensity:
        for i in range(plan.score_table_count):
            if work.card_heads[i] >= 0:
                _score_table(work, i)
        for i in range(plan.model_table_count):
            if work.model_heads[i] >= 0:
                _score_model(work, i)
    for i in range(work.contender_count):
        contender = &work.contenders[i]
        offer = contender.offer
        terms = &plan.terms[offer]
        if contender.model_status and isnan(contender.propensity):
            work.model_failed[offer >> 6] |= <uint64_t> 1 << (offer & 63)
            continue
        if terms.value_expression >= 0 and plan.use_value:
            contender.value = _number(work, terms.value_expression)
        if terms.weighted:
            _weigh(work, contender)
        contender.priority = NAN
        if isfinite(contender.value):
            contender.priority = _product(contender) if plan.formula < 0 else _formula(work, contender)
        if not isfinite(contender.priority):
            _blame(work, contender)
            continue
        if kept != i:
            work.contenders[kept] = contender[0]
        kept += 1
    work.contender_count = kept
