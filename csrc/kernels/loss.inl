// Losses with their gradients; lanes beyond the rows in use add no loss and get the gradient 0.

static inline V used(int rows, int lane, V x) {
    V y = x;
    if (lane + W > rows)
        for (int i = 0; i < W; ++i)
            if (lane + i >= rows) y[i] = 0.0f;
    return y;
}

static inline void put(const LossCall& c, ptrdiff_t at, int lane, V d) {
    const V masked = used(c.rows, lane, d);
    store(c.dx + at, c.accumulate ? load(c.dx + at) + masked : masked);
}

static inline void add_loss(const LossCall& c, int lane, V loss) {
    store(c.loss + lane, load(c.loss + lane) + used(c.rows, lane, loss * c.scale_loss));
}

static void cross_entropy(const LossCall& c) {
    const Groups s = c.shape;
    const ptrdiff_t step = s.lanes;
    const float uniform = c.smoothing / float(s.width), certain = 1.0f - c.smoothing;
    each_vector(s, [&](int g, int lane, ptrdiff_t at) {
        const float* x = c.x + at;
        const int32_t* classes = c.classes + g * s.lanes + lane;
        V top = load(x);
        for (int f = 1; f < s.width; ++f) top = vmax(load(x + f * step), top);
        const V sum = striped(s.width, [&](int f, V acc) { return acc + vexp(load(x + f * step) - top); });
        const V log_sum = vlog(sum) + top;
        V chosen = V{};
        for (int i = 0; i < W; ++i) chosen[i] = x[classes[i] * step + i];
        V loss = certain * (log_sum - chosen);
        if (c.smoothing > 0.0f)
            loss += uniform * striped(s.width, [&](int f, V acc) { return acc + (log_sum - load(x + f * step)); });
        const V weight = c.weights ? load(c.weights + g * s.lanes + lane) : splat(1.0f);
        add_loss(c, lane, loss * weight);
        if (!c.dx) return;
        const V scale = weight * c.scale_grad;
        I wanted;
        for (int i = 0; i < W; ++i) wanted[i] = classes[i];
        for (int f = 0; f < s.width; ++f) {
            const V p = vexp(load(x + f * step) - top) / sum;
            const V target = (wanted == f ? splat(certain) : V{}) + uniform;
            put(c, at + f * step, lane, (p - target) * scale);
        }
    });
}

static void binary_cross_entropy(const LossCall& c) {
    const ptrdiff_t step = c.shape.lanes;
    each_vector(c.shape, [&](int, int lane, ptrdiff_t at) {
        auto target = [&](int f) { return fma(load(c.targets + at + f * step), splat(1.0f - c.smoothing),
                                              splat(0.5f * c.smoothing)); };
        add_loss(c, lane, striped(c.shape.width, [&](int f, V acc) {
                     const V x = load(c.x + at + f * step), loss = vsoftplus(x) - x * target(f);
                     return acc + (c.weights ? loss * load(c.weights + at + f * step) : loss);
                 }));
        if (!c.dx) return;
        for (int f = 0; f < c.shape.width; ++f) {
            const V d = vsigmoid(load(c.x + at + f * step)) - target(f);
            put(c, at + f * step, lane, (c.weights ? d * load(c.weights + at + f * step) : d) * c.scale_grad);
        }
    });
}

// p ln p, 0 for p = 0.
static inline V times_log(V p) { return p > V{} ? p * vlog(p) : V{}; }

static void divergence(const LossCall& c) {
    const Groups s = c.shape;
    const ptrdiff_t step = s.lanes;
    each_vector(s, [&](int, int lane, ptrdiff_t at) {
        auto z = [&](int f) { return load(c.x + at + f * step) * c.inverse_temperature; };
        auto teacher = [&](int f) { return load(c.targets + at + f * step); };
        V top = z(0);
        for (int f = 1; f < s.width; ++f) top = vmax(z(f), top);
        const V sum = striped(s.width, [&](int f, V acc) { return acc + vexp(z(f) - top); });
        const V mass = striped(s.width, [&](int f, V acc) { return acc + teacher(f); });
        const V log_sum = vlog(sum) + top;
        add_loss(c, lane, striped(s.width, [&](int f, V acc) {
                     return acc + fma(teacher(f), log_sum - z(f), times_log(teacher(f)));
                 }));
        if (!c.dx) return;
        for (int f = 0; f < s.width; ++f)
            put(c, at + f * step, lane, (vexp(z(f) - top) / sum * mass - teacher(f)) * c.scale_grad);
    });
}

static void binary_divergence(const LossCall& c) {
    const ptrdiff_t step = c.shape.lanes;
    each_vector(c.shape, [&](int, int lane, ptrdiff_t at) {
        auto z = [&](int f) { return load(c.x + at + f * step) * c.inverse_temperature; };
        auto teacher = [&](int f) { return load(c.targets + at + f * step); };
        add_loss(c, lane, striped(c.shape.width, [&](int f, V acc) {
                     const V p = teacher(f), known = times_log(p) + times_log(1.0f - p);
                     return acc + (known + (vsoftplus(z(f)) - z(f) * p));
                 }));
        if (!c.dx) return;
        for (int f = 0; f < c.shape.width; ++f)
            put(c, at + f * step, lane, (vsigmoid(z(f)) - teacher(f)) * c.scale_grad);
    });
}

static void squared_error(const LossCall& c) {
    const ptrdiff_t step = c.shape.lanes;
    each_vector(c.shape, [&](int, int lane, ptrdiff_t at) {
        auto error = [&](int f) { return load(c.x + at + f * step) - load(c.targets + at + f * step); };
        add_loss(c, lane, striped(c.shape.width, [&](int f, V acc) {
                     const V e = error(f);
                     return fma(e, e, acc);
                 }));
        if (!c.dx) return;
        for (int f = 0; f < c.shape.width; ++f)
            put(c, at + f * step, lane, 2.0f * error(f) * c.scale_grad);
    });
}
