"""What others published on RealIR-Bench and on FoundIR's test set, to stand beside our scores.

RealIR-Bench: RealRestorer, arXiv 2603.25502v1, its main table: LPS, RS and FS of each task, graded by Qwen3-VL-8B. The
noise and compression columns of FLUX.1-Kontext-dev are identical there, probably by a slip. FoundIR: the isolated
subsets in the same paper (no LPIPS is given), and the 20 subsets of FoundIR's generalist as V-Bridge reports them.
"""

Triple = tuple[float, float, float]
Pair = tuple[float, float]

TASKS = ("rain", "blur", "low_light", "haze", "reflection", "flare", "moire", "noise", "compression", "average")

_REALIR = {
    "Nano Banana Pro": (
        ".429/2.063/.236 .326/1.068/.144 .467/.720/.077 .492/1.920/.195 .358/1.368/.176 "
        ".214/1.222/.192 .562/1.560/.137 .386/.712/.087 .483/1.122/.116 .413/1.306/.153"
    ),
    "GPT-Image-1.5": (
        ".535/2.120/.197 .532/1.667/.156 .523/1.048/.100 .558/1.840/.163 .468/2.320/.247 "
        ".336/1.415/.188 .646/1.633/.116 .496/.993/.100 .633/1.167/.086 .525/1.578/.150"
    ),
    "Seedream 4.5": (
        ".438/1.500/.169 .254/.255/.038 .423/.600/.069 .418/1.140/.133 .291/1.156/.164 "
        ".225/1.104/.171 .548/1.600/.145 .387/.770/.094 .529/1.136/.107 .390/1.029/.125"
    ),
    "LongCat-Image-Edit": (
        ".381/1.302/.161 .200/0/0 .158/.120/.020 .236/0/0 .254/1.060/.158 "
        ".241/1.717/.261 .420/1.200/.139 .350/.471/.061 .188/.083/.014 .270/.661/.097"
    ),
    "Qwen-Image-Edit-2511": (
        ".435/1.736/.196 .170/.240/.040 .122/.080/.014 .337/.060/.008 .333/1.820/.243 "
        ".222/1.660/.258 .595/1.660/.135 .429/.824/.094 .242/.300/.046 .320/.931/.127"
    ),
    "FLUX.1-Kontext-dev": (
        ".244/.673/.102 .090/.104/.019 .108/.160/.029 .058/.020/.004 .048/.127/.024 "
        ".064/.264/.049 .348/.540/.070 .429/.628/.072 .429/.628/.072 .202/.349/.056"
    ),
    "Step1X-Edit": (
        ".282/.019/.003 .321/.906/.123 .306/.340/.047 .194/.190/.031 .247/.080/.012 "
        ".173/0/0 .654/.410/.028 .409/.098/.012 .344/.383/.050 .325/.270/.036"
    ),
    "RealRestorer": (
        ".371/1.076/.135 .582/1.900/.159 .597/1.360/.110 .339/.680/.090 .290/1.620/.230 "
        ".239/1.623/.247 .563/1.620/.142 .478/.863/.090 .547/1.067/.097 .445/1.312/.146"
    ),
}

# FoundIR's isolated subsets (RealRestorer's paper): PSNR in dB and SSIM.
_ISOLATED_TASKS = ("blur", "rain", "raindrop", "noise", "low_light", "haze", "compression", "average")
_ISOLATED = {
    "Nano Banana Pro": "20.16/.68 21.55/.65 23.29/.66 24.78/.89 15.73/.73 17.63/.50 19.48/.58 20.37/.67",
    "GPT-Image-1.5": "13.25/.41 12.52/.34 13.89/.31 14.15/.68 11.00/.55 12.39/.28 13.06/.39 12.89/.42",
    "Seedream 4.5": "17.94/.61 17.61/.57 18.01/.58 15.57/.78 13.64/.68 15.65/.44 14.29/.54 16.10/.60",
    "LongCat-Image-Edit": "18.53/.65 17.09/.52 18.22/.48 19.77/.81 15.24/.70 10.52/.36 15.64/.47 16.43/.57",
    "Qwen-Image-Edit-2511": "15.60/.55 14.68/.46 15.19/.42 19.73/.81 7.13/.17 7.20/.34 18.29/.61 13.98/.48",
    "FLUX.1-Kontext-dev": "10.73/.41 10.48/.35 11.25/.31 15.10/.69 10.34/.53 10.74/.29 10.74/.34 11.34/.42",
    "Step1X-Edit": "16.38/.63 19.91/.63 19.42/.58 27.18/.91 15.72/.70 14.20/.45 22.81/.75 19.37/.66",
    "RealRestorer": "18.99/.59 23.72/.71 23.64/.71 28.15/.90 17.59/.77 17.66/.56 20.40/.66 21.45/.70",
}

# All subsets (V-Bridge's paper): PSNR in dB and SSIM of FoundIR's generalist.
_GENERALIST = {
    "blur": "24.34/.786",
    "noise": "38.61/.966",
    "compression": "34.03/.938",
    "haze": "16.65/.781",
    "rain": "33.09/.939",
    "raindrop": "28.52/.911",
    "low_light": "12.35/.719",
    "blur_noise": "22.53/.765",
    "blur_compression": "28.33/.849",
    "noise_compression": "39.21/.975",
    "rain_haze": "15.42/.677",
    "low_light_haze": "17.05/.756",
    "low_light_rain": "32.77/.928",
    "low_light_blur": "18.07/.755",
    "low_light_noise": "12.77/.745",
    "low_light_compression": "17.66/.849",
    "low_light_blur_noise": "17.63/.689",
    "low_light_blur_compression": "18.64/.790",
    "low_light_noise_compression": "20.09/.916",
    "blur_noise_compression": "26.72/.731",
    "average": "23.57/.820",
}


def realir_table() -> dict[str, dict[str, Triple]]:
    """Return LPS, RS and FS of each published model by task, and their "average"."""
    return {
        model: dict(zip(TASKS, (_three(cell) for cell in row.split()), strict=True)) for model, row in _REALIR.items()
    }


def foundir_table() -> dict[str, dict[str, Pair]]:
    """Return PSNR and SSIM of each published model by subset; "average" is over the subsets the model was tested on."""
    found = {
        model: dict(zip(_ISOLATED_TASKS, (_two(cell) for cell in row.split()), strict=True))
        for model, row in _ISOLATED.items()
    }
    return {**found, "FoundIR generalist": {task: _two(cell) for task, cell in _GENERALIST.items()}}


def _three(cell: str) -> Triple:
    lps, rs, fs = map(float, cell.split("/"))
    return lps, rs, fs


def _two(cell: str) -> Pair:
    psnr, ssim = map(float, cell.split("/"))
    return psnr, ssim
