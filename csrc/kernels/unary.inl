// Activations and other elementwise kernels over n floats, n a multiple of 16.

struct Relu {
    static V f(V x, float) { return x > 0.0f ? x : V{}; }
    static V d(V x, V, V dy, float) { return x > 0.0f ? dy : V{}; }
};
struct LeakyRelu {
    static V f(V x, float a) { return x > 0.0f ? x : a * x; }
    static V d(V x, V, V dy, float a) { return x > 0.0f ? dy : a * dy; }
};
struct Elu {
    static V f(V x, float a) { return x > 0.0f ? x : a * expm1_negative(x); }
    static V d(V x, V, V dy, float a) { return x > 0.0f ? dy : dy * (a * vexp(x)); }
};
struct Gelu {
    static V f(V x, float) {
        V gauss;
        return x * normal_cdf(x, &gauss);
    }
    static V d(V x, V, V dy, float) {
        V gauss;
        const V cdf = normal_cdf(x, &gauss);
        return dy * fma(x * 0.39894228f, gauss, cdf);
    }
};
struct Silu {
    static V f(V x, float) { return x * vsigmoid(x); }
    static V d(V x, V, V dy, float) {
        const V s = vsigmoid(x);
        return dy * (s * fma(x, 1.0f - s, splat(1.0f)));
    }
};
struct Sigmoid {
    static V f(V x, float) { return vsigmoid(x); }
    static V d(V, V y, V dy, float) { return dy * (y * (1.0f - y)); }
};
struct Softplus {
    static V f(V x, float) { return vsoftplus(x); }
    static V d(V x, V, V dy, float) { return dy * vsigmoid(x); }
};
struct Tanh {
    static V f(V x, float) { return vtanh(x); }
    static V d(V, V y, V dy, float) { return dy * fma(-y, y, splat(1.0f)); }
};

template <typename F>
static void map_forward(size_t n, const float* x, float* y, float a) {
    for (size_t i = 0; i < n; i += W) store(y + i, F::f(load(x + i), a));
}

template <typename F>
static void map_backward(size_t n, const float* x, const float* y, const float* dy, float* dx, float a,
                         bool accumulate) {
    if (accumulate)
        for (size_t i = 0; i < n; i += W)
            store(dx + i, load(dx + i) + F::d(load(x + i), load(y + i), load(dy + i), a));
    else
        for (size_t i = 0; i < n; i += W) store(dx + i, F::d(load(x + i), load(y + i), load(dy + i), a));
}

static void unary_forward(Unary kind, size_t n, const float* x, float* y, float a) {
    typedef void (*Function)(size_t, const float*, float*, float);
    static constexpr Function table[] = {map_forward<Relu>, map_forward<LeakyRelu>, map_forward<Elu>,
                                         map_forward<Gelu>, map_forward<Silu>,      map_forward<Sigmoid>,
                                         map_forward<Softplus>, map_forward<Tanh>};
    table[static_cast<int>(kind)](n, x, y, a);
}

static void unary_backward(Unary kind, size_t n, const float* x, const float* y, const float* dy, float* dx,
                           float a, bool accumulate) {
    typedef void (*Function)(size_t, const float*, const float*, const float*, float*, float, bool);
    static constexpr Function table[] = {map_backward<Relu>, map_backward<LeakyRelu>, map_backward<Elu>,
                                         map_backward<Gelu>, map_backward<Silu>,      map_backward<Sigmoid>,
                                         map_backward<Softplus>, map_backward<Tanh>};
    table[static_cast<int>(kind)](n, x, y, dy, dx, a, accumulate);
}

static void copy(size_t n, const float* x, float* y, bool accumulate) {
    if (accumulate)
        for (size_t i = 0; i < n; i += W) store(y + i, load(y + i) + load(x + i));
    else
        for (size_t i = 0; i < n; i += W) store(y + i, load(x + i));
}

static void multiply(size_t n, const float* a, const float* b, float* y, bool accumulate) {
    if (accumulate)
        for (size_t i = 0; i < n; i += W) store(y + i, fma(load(a + i), load(b + i), load(y + i)));
    else
        for (size_t i = 0; i < n; i += W) store(y + i, load(a + i) * load(b + i));
}

static I compare(int comparison, V x, float value) {
    switch (comparison) {
        case 0: return x == value;
        case 1: return x != value;
        case 2: return x < value;
        case 3: return x <= value;
        case 4: return x > value;
        default: return x >= value;
    }
}

static void select(Groups s, int comparison, float value, const float* condition, const float* a, const float* b,
                   float* y, bool accumulate) {
    for (int g = 0; g < s.groups; ++g)
        for (int lane = 0; lane < s.lanes; lane += W) {
            const I holds = compare(comparison, load(condition + g * s.lanes + lane), value);
            for (int f = 0; f < s.width; ++f) {
                const ptrdiff_t at = ptrdiff_t(g * s.width + f) * s.lanes + lane;
                const V chosen = holds ? (a ? load(a + at) : V{}) : (b ? load(b + at) : V{});
                store(y + at, accumulate ? load(y + at) + chosen : chosen);
            }
        }
}

static void elementary(int which, size_t n, const float* x, float* y) {
    V unused;
    for (size_t i = 0; i < n; i += W) {
        const V v = load(x + i);
        switch (which) {
            case 0: store(y + i, vexp(v)); break;
            case 1: store(y + i, vlog(v)); break;
            case 2: store(y + i, vtanh(v)); break;
            case 3: store(y + i, expm1_negative(v)); break;
            case 4: store(y + i, normal_cdf(v, &unused)); break;
            case 5: store(y + i, vsigmoid(v)); break;
            default: store(y + i, vsoftplus(v)); break;
        }
    }
}
