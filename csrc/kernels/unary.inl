// Activations and other elementwise kernels over n floats, n a multiple of 16.

// f gives y; `slope`, when asked for, dy/dx.
struct Relu {
    static V f(V x, float, V* slope) {
        if (slope) *slope = x > 0.0f ? splat(1.0f) : V{};
        return x > 0.0f ? x : V{};
    }
};
struct LeakyRelu {
    static V f(V x, float a, V* slope) {
        if (slope) *slope = x > 0.0f ? splat(1.0f) : splat(a);
        return x > 0.0f ? x : a * x;
    }
};
struct Elu {
    static V f(V x, float a, V* slope) {
        if (slope) *slope = x > 0.0f ? splat(1.0f) : a * vexp(x);
        return x > 0.0f ? x : a * expm1_negative(x);
    }
};
struct Gelu {
    static V f(V x, float, V* slope) {
        V gauss;
        const V cdf = normal_cdf(x, &gauss);
        if (slope) *slope = fma(x * 0.39894228f, gauss, cdf);
        return x * cdf;
    }
};
struct Silu {
    static V f(V x, float, V* slope) {
        const V s = vsigmoid(x);
        if (slope) *slope = s * fma(x, 1.0f - s, splat(1.0f));
        return x * s;
    }
};
struct Sigmoid {
    static V f(V x, float, V* slope) {
        const V s = vsigmoid(x);
        if (slope) *slope = s * (1.0f - s);
        return s;
    }
};
struct Softplus {
    static V f(V x, float, V* slope) {
        if (slope) *slope = vsigmoid(x);
        return vsoftplus(x);
    }
};
struct Tanh {
    static V f(V x, float, V* slope) {
        const V t = vtanh(x);
        if (slope) *slope = fnma(t, t, splat(1.0f));
        return t;
    }
};

struct GeluTanh {
    static V f(V x, float, V* slope) {
        const V square = x * x, t = vtanh(0.79788456f * x * fma(square, splat(0.044715f), splat(1.0f)));
        if (slope) {
            const V inner = 0.79788456f * fma(square, splat(0.134145f), splat(1.0f));
            *slope = 0.5f * fma(x * fnma(t, t, splat(1.0f)), inner, 1.0f + t);
        }
        return 0.5f * x * (1.0f + t);
    }
};

template <typename F>
static void map(size_t n, const float* x, float* y, float* slope, float a) {
    if (slope)
        for (size_t i = 0; i < n; i += W) {
            V d;
            store(y + i, F::f(load(x + i), a, &d));
            store(slope + i, d);
        }
    else
        for (size_t i = 0; i < n; i += W) store(y + i, F::f(load(x + i), a, nullptr));
}

static void unary(Unary kind, size_t n, const float* x, float* y, float* slope, float a) {
    typedef void (*Function)(size_t, const float*, float*, float*, float);
    static constexpr Function table[] = {map<Relu>, map<LeakyRelu>, map<Elu>,      map<Gelu>,
                                         map<Silu>, map<Sigmoid>,   map<Softplus>, map<Tanh>, map<GeluTanh>};
    table[static_cast<int>(kind)](n, x, y, slope, a);
}

template <typename F>
static void gate(const GatedProduct& p) {
    for (size_t i = 0; i < p.n; i += W) store(p.y + i, F::f(load(p.a + i), p.number, nullptr) * load(p.b + i));
}

template <typename F>
static void gate_backward(const GatedProduct& p) {
    for (size_t i = 0; i < p.n; i += W) {
        V slope;
        const V active = F::f(load(p.a + i), p.number, &slope), dy = load(p.dy + i), b = load(p.b + i);
        if (p.da) {
            const V d = dy * b * slope;
            store(p.da + i, p.accumulate_a ? load(p.da + i) + d : d);
        }
        if (p.db) store(p.db + i, p.accumulate_b ? fma(dy, active, load(p.db + i)) : dy * active);
    }
}

typedef void (*GatedFunction)(const GatedProduct&);
static void gated_forward(const GatedProduct& p) {
    static constexpr GatedFunction table[] = {gate<Relu>, gate<LeakyRelu>, gate<Elu>,  gate<Gelu>,    gate<Silu>,
                                              gate<Sigmoid>, gate<Softplus>, gate<Tanh>, gate<GeluTanh>};
    table[static_cast<int>(p.kind)](p);
}
static void gated_backward(const GatedProduct& p) {
    static constexpr GatedFunction table[] = {
        gate_backward<Relu>,    gate_backward<LeakyRelu>, gate_backward<Elu>,  gate_backward<Gelu>,    gate_backward<Silu>,
        gate_backward<Sigmoid>, gate_backward<Softplus>,  gate_backward<Tanh>, gate_backward<GeluTanh>};
    table[static_cast<int>(p.kind)](p);
}

// dx = dy where y > 0, else 0.
static void relu_backward(size_t n, const float* y, const float* dy, float* dx, bool accumulate) {
    for (size_t i = 0; i < n; i += W) {
        const V d = load(y + i) > 0.0f ? load(dy + i) : V{};
        store(dx + i, accumulate ? load(dx + i) + d : d);
    }
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
            case 6: store(y + i, vsoftplus(v)); break;
            default: store(y + i, other_root(v)); break;
        }
    }
}
